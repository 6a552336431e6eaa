"""Standard streams as a command needs them: a closed one swallows what is written, odd letters are spelt out.

A command started by cron, or whose terminal was closed, still ends as its work does.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from rasa.errors import ResourceError

T = TypeVar("T")


class Forgiving:
    """A stream of messages: one that cannot be written any more costs no run. All else is the stream's own."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as far as that is possible; gives the length, as a stream does."""
        with suppress(OSError, ValueError):  # ValueError: it has been closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As write."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class Telling:
    """A stream of data: one that cannot be written is a ResourceError, and what is still to come is swallowed.

    A reader that has gone (BrokenPipeError) is no fault, and stays what it is.
    """

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        """As the stream's own. Raises ResourceError."""
        return self._told(lambda: int(self._stream.write(text)))

    def flush(self) -> None:
        """As the stream's own. Raises ResourceError."""
        self._told(self._stream.flush)

    def _told(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except BrokenPipeError:
            raise
        except OSError as error:
            # Else Python's own flush at the end would complain once more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            raise ResourceError(f"standard output could not be written ({error.strerror})") from error

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def usable() -> Iterator[None]:
    """Inside, all three streams are there, and messages (stderr) never raise."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:  # else the next file that is opened would take its number, and get what is printed
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdin, sys.stdout, sys.stderr
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115  # for as long as the process lives
    sys.stdout = Telling(sys.stdout or open(1, "w", closefd=False))  # noqa: SIM115
    sys.stderr = Forgiving(sys.stderr or open(2, "w", closefd=False))  # noqa: SIM115
    for stream in (sys.stdout, before[2]):
        if hasattr(stream, "reconfigure"):
            with suppress(ValueError):
                stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        sys.stderr = before[2] or sys.stderr
        sys.stdin, sys.stdout = before[0] or sys.stdin, before[1] or sys.stdout
