"""What SIGINT, SIGTERM, SIGHUP and the end of the time that was given mean while runs go on."""

import os
import signal
import threading
from collections.abc import Callable
from multiprocessing import active_children
from types import FrameType, TracebackType
from typing import Self

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _give_back_the_cursor() -> None:
    """A screen has hidden it, and will not be asked to end."""
    if os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb":
        os.write(2, b"\x1b[?25h\n")


class Stop:
    """The first of these signals sets `asked`; the second ends this process and its workers at once.

    `asked` is set after `seconds` too, if they are given. With `instead` no signal is heard here: `asked` is set once
    that is true, for whoever gave it hears them.
    """

    def __init__(
        self, on_first: Callable[[], None], seconds: float | None = None, instead: Callable[[], bool] | None = None
    ):
        self._asked, self._on_first, self._instead = False, on_first, instead
        self._cut_off = False
        self._timer = None if seconds is None else threading.Timer(max(0.0, seconds), self._over)

    @property
    def asked(self) -> bool:
        """Whether what goes on is to stop."""
        if self._instead is not None and self._instead():
            self._over()
        return self._asked or self._cut_off

    def ask(self) -> None:
        """Have what goes on stop, for a reason that whoever calls has told. A signal after it is the first yet."""
        self._cut_off = True

    def __enter__(self) -> Self:
        # Python hears signals in its main thread only; elsewhere whoever called has to stop the runs.
        here = threading.current_thread() is threading.main_thread()
        numbers = STOPPING if here and self._instead is None else ()
        # nohup runs go on when their terminal is closed. SIGINT is heard in any case: a shell has its background jobs
        # ignore it, and whoever sends it to one means it.
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        handled = [number for number in numbers if number != signal.SIGHUP or not nohup]
        self._before = {number: signal.signal(number, self._on_signal) for number in handled}
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            for child in active_children():
                child.kill()
            _give_back_the_cursor()
            os._exit(130)
        self._asked = True
        self._on_first()

    def _over(self) -> None:
        if not self._asked:
            self._asked = True
            self._on_first()
