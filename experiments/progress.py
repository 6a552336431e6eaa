"""What a person sees on stderr while runs go on, in lines; a terminal's screen is experiments/live.py."""

import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn

from experiments.eta import Shape, remaining, shape_of
from experiments.outcome import Outcome
from experiments.plan import PlannedRun
from experiments.rundir import About, Point, read_points


class Bars:
    """Bars of tasks on stderr, with lines above them; used as a context."""

    def __init__(self, *columns: ProgressColumn, console: Console | None = None):
        self._console = console or console_of_stderr()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *columns,
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bars.stop()

    def notify(self, line: str) -> None:
        """Print a line above the bars. Figures and paths are text here, not markup."""
        self._console.print(line, markup=False)


class Display:
    """Follows the runs of one command in lines, for files, pipes and plain terminals; used as a context."""

    def __init__(self, total: int, console: Console | None = None, clock: Callable[[], float] = time.time):
        self._console = console or console_of_stderr()
        self._alone, self._clock = total == 1, clock
        self._epochs: dict[str, int] = {}  # done, by run id, as all of these
        self._points: dict[str, list[Point]] = {}
        self._directories: dict[str, Path | None] = {}
        self._shapes: dict[str, Shape | None] = {}  # known once a run reports: then its record says on what it runs

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        pass

    def notify(self, line: str) -> None:
        """Print a line. Figures and paths are text here, not markup."""
        self._console.print(line, markup=False)

    def on_start(self, run: PlannedRun) -> None:
        """A run begins, or goes on."""
        epochs = run.config.optimisation.epochs
        begun = "resumed" if run.state == "interrupted" else "started"
        self.notify(
            f"{run.about.name}: {'evaluating, no training' if run.about.untrained else f'{begun}, {epochs} epochs'}"
        )
        points = read_points(run.directory) if run.directory else []
        self._points[run.about.run_id], self._directories[run.about.run_id] = points, run.directory
        self._shapes.pop(run.about.run_id, None)
        self._epochs[run.about.run_id] = len({point.step for point in points if point.group == "val"})

    def on_metrics(self, about: About, group: str, step: int, values: dict[str, float]) -> None:
        """Figures of a run: each epoch's validation is a line."""
        self._points.setdefault(about.run_id, []).append(Point(group, step, values, self._clock()))
        if group == "val" and not about.untrained:
            self._epochs[about.run_id] = epoch = int(values.get("epoch", self._epochs[about.run_id] + 1))
            left = self._left(about)
            said = f", about {duration(left)} left" if left else ""
            self.notify(f"{about.name}: epoch {epoch} val R@1 {values.get('r1', float('nan')):.2f}{said}")

    def on_end(self, outcome: Outcome) -> None:
        """A run came to an end, or needed no execution."""
        if outcome.state == "failed" and self._alone:
            return  # its fault ends the command, which then says it
        self.notify(f"{outcome.about.name}: {ending(outcome)}")

    def _left(self, about: About) -> float | None:
        """Seconds, evaluations and the test included; None while nobody can know."""
        if not (points := self._points.get(about.run_id)):
            return None
        if about.run_id not in self._shapes:
            self._shapes[about.run_id] = shape_of(about, self._directories.get(about.run_id))
        shape = self._shapes[about.run_id]
        return remaining(points, shape, self._clock()) if shape else None


def console_of_stderr() -> Console:
    """As all progress is printed."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def ending(outcome: Outcome) -> str:
    """How a run stands, e.g. `finished, R@1 56.20, 12 s`."""
    figures = [f"R@1 {outcome.r1:.2f}"] if outcome.r1 is not None else []
    figures += [duration(outcome.seconds)] if outcome.seconds is not None else []
    return ", ".join([outcome.state, *figures]) + (f": {outcome.message}" if outcome.message else "")


def duration(seconds: float | None) -> str:
    """`12 s`, `3 min`, `2.5 h`, or `?`."""
    if seconds is None:
        return "?"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
