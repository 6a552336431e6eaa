"""What an executor is: it is given works, decides when and where they go on, and says what happens to them.

It plans nothing and records nothing: what a work has done lies in the run's directory, whoever is asked.
"""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Literal, NamedTuple, Protocol, Self

from rasa.callbacks import Notify

Kind = Literal["began", "said", "ended", "died", "withdrawn"]


class Work(Protocol):
    """Something to execute in another process, to which it is sent: a run, or a worker of a study."""

    @property
    def name(self) -> str:
        """As messages give it."""

    @property
    def size(self) -> int:
        """Devices, and so processes, that it takes."""

    @property
    def on_cpu(self) -> bool:
        """Whether it needs no GPU even where there is one."""

    def __call__(self, notify: Notify, should_stop: Callable[[], bool], threads: int | None, attempt: int) -> Any:
        """Execute it; `attempt` is 2 or more if the process died that had it before. Never raises for its own fault."""


class Fault(NamedTuple):
    """What a work returns that could not be begun: a line, and the exit code that it asks for."""

    text: str
    exit_code: int


class Event(NamedTuple):
    """What happened to a work."""

    ticket: str
    kind: Kind
    content: Any = None  # began: where. said: a line. ended: what the work returned. died: why.
    shared: bool = False  # ended: others were on its device meanwhile


class Executor(Protocol):
    """Executes works elsewhere; used as a context. Raises ResourceError with one line if its engine refuses."""

    def submit(self, works: Sequence[Work], alone: bool = False) -> list[str]:
        """Take these; a ticket for each. `alone`: each on a device that it shares with none."""

    def poll(self, seconds: float) -> list[Event]:
        """What has happened since the last call, waiting at most so long for something to."""

    def cancel(self, tickets: Sequence[str]) -> None:
        """Withdraw those that have not begun, and have the others stop with a checkpoint; events say which is which."""

    def logs(self, ticket: str) -> str:
        """Where what it printed can be read."""

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go of the engine. What still goes on there is stopped, if it is this process's own."""
