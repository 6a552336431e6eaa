"""The screen of a terminal while runs go on: a line for each row with its seeds, and one for each run at work.

Lines that stay (an epoch's figures, ends, faults) are printed above it. When the command is over the screen is gone,
and so it is after Ctrl-C.
"""

import os
import time
from collections.abc import Callable, Sequence
from threading import RLock
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from experiments.outcome import Outcome
from experiments.plan import PlannedRun
from experiments.progress import Display, console_of_stderr, duration
from experiments.rundir import About, Point

PER_SECOND = 4  # redrawings
RECENT = 20  # training figures over which a rate is taken
WAITING, RUNNING = "waiting", "running"
STYLES = {
    "finished": "green",
    "stale": "green",
    RUNNING: "cyan",
    "failed": "bold red",
    "interrupted": "yellow",
    WAITING: "dim",
}
SIGNS = {"finished": "✓", "stale": "✓", RUNNING: "▸", "failed": "✗", "interrupted": "‖", WAITING: "·"}
PLAIN_SIGNS = {"finished": "+", "stale": "+", RUNNING: ">", "failed": "x", "interrupted": "=", WAITING: "."}


def display_of(planned: Sequence[PlannedRun], plain: bool = False, console: Console | None = None) -> Display:
    """The screen where stderr is a terminal that can show it, else lines. NO_COLOR asks for lines, too."""
    console = console or console_of_stderr()
    wanted = console.is_terminal and not console.is_dumb_terminal and not plain and not os.environ.get("NO_COLOR")
    return Screen(planned, console) if wanted else Display(len(planned), console)


class Screen(Display):
    """Follows the runs of one command on a terminal; used as a context."""

    def __init__(self, planned: Sequence[PlannedRun], console: Console, clock: Callable[[], float] = time.time):
        super().__init__(len(planned), console, clock)
        self._lock = RLock()  # rich draws in a thread of its own
        self._planned = {_key(run.about): run for run in planned}
        self._states = dict.fromkeys(self._planned, WAITING)
        self._began: dict[str, int] = {}  # of a run's figures, how many are of earlier attempts
        signs = SIGNS if console.encoding.startswith("utf") else PLAIN_SIGNS
        self._signs = signs
        self._live = Live(
            console=console,
            get_renderable=self.screen,
            refresh_per_second=PER_SECOND,
            transient=True,
            redirect_stdout=False,  # is data
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._live.stop()

    def on_start(self, run: PlannedRun) -> None:
        """As Display."""
        with self._lock:
            super().on_start(run)
            self._states[_key(run.about)] = RUNNING
            self._began[run.about.run_id] = len(self._points[run.about.run_id])

    def on_metrics(self, about: About, group: str, step: int, values: dict[str, float]) -> None:
        """As Display."""
        with self._lock:
            super().on_metrics(about, group, step, values)

    def on_end(self, outcome: Outcome) -> None:
        """As Display."""
        with self._lock:
            super().on_end(outcome)
            self._states[_key(outcome.about)] = outcome.state

    def screen(self) -> RenderableType:
        """All of it, now: what is at work first, for a small window cuts off the end."""
        with self._lock:
            running = [self._planned[key] for key, state in self._states.items() if state == RUNNING]
            parts: list[RenderableType] = [self._summary(running), *([self._at_work(running)] if running else [])]
            if len(self._planned) > 1:
                parts.append(self._rows())
            return Group(*parts)

    def _summary(self, running: Sequence[PlannedRun]) -> Text:
        """`3 of 30 done, 2 running, 1 failed, about 2 h left`."""
        states = [*self._states.values()]
        done = sum(state not in (WAITING, RUNNING) for state in states)
        failed = states.count("failed")
        said = [f"{done} of {len(states)} done", f"{len(running)} running"]
        said += [f"{failed} failed"] if failed else []
        if (left := self._all_left(running)) is not None:
            said.append(f"about {duration(left)} left")
        return Text(", ".join(said), style="bold")

    def _all_left(self, running: Sequence[PlannedRun]) -> float | None:
        """Seconds until all have ended with as many at a time as now; None if of one nobody can know."""
        waiting = [self._planned[key] for key, state in self._states.items() if state == WAITING]
        each = [self._of_run(run) for run in running] + [run.seconds for run in waiting]
        known = [seconds for seconds in each if seconds is not None]
        if len(known) < len(each) or not running:
            return None
        return max(sum(known) / len(running), *known)

    def _of_run(self, run: PlannedRun) -> float | None:
        """Seconds of a run at work: by its own figures, before there are enough by its estimate."""
        points = self._points.get(run.about.run_id, [])
        if (left := self._left(run.about)) is not None or run.seconds is None:
            return left
        new = points[self._began.get(run.about.run_id, 0) :]
        return max(0.0, run.seconds - (self._clock() - new[0].time)) if new else run.seconds

    def _at_work(self, running: Sequence[PlannedRun]) -> Table:
        table = _table("RUN", "EPOCH", "STEP", "LOSS", "PAIRS/S", "VAL R@1", "LEFT")
        for run in running:
            about, points = run.about, self._points.get(run.about.run_id, [])
            train = [point for point in points if point.group == "train"]
            val = [point.values["r1"] for point in points if point.group == "val" and "r1" in point.values]
            epochs = "" if about.untrained else f"{self._epochs.get(about.run_id, 0)}/{run.config.optimisation.epochs}"
            rate = _rate([point for point in points[self._began.get(about.run_id, 0) :] if point.group == "train"])
            left = self._of_run(run)
            table.add_row(
                Text(about.name, style=STYLES[RUNNING]),
                epochs,
                str(train[-1].step) if train else "",
                f"{train[-1].values['loss']:.3f}" if train and "loss" in train[-1].values else "",
                f"{rate * run.config.optimisation.batch_size:.1f}" if rate else "",
                f"{val[-1]:.2f}" if val else "",
                duration(left) if left is not None else "",
            )
        return table

    def _rows(self) -> Table:
        table = _table("ROW", "SEEDS", left=2)
        by_row: dict[str, Text] = {}
        for key, state in self._states.items():
            about = self._planned[key].about
            row = f"{about.suite}/{about.row}" + (f" ({about.variant})" if about.variant else "")
            seed = "" if about.untrained else f"{about.seed} "
            by_row.setdefault(row, Text()).append(f"{seed}{self._signs.get(state, '?')}  ", style=STYLES.get(state, ""))
        for row, seeds in by_row.items():
            table.add_row(row, seeds)
        return table


def _key(about: About) -> str:
    """Of a run among those of one command: one whose data is not built yet has no id."""
    return f"{about.suite}/{about.row}/{about.profile}/{about.seed}/{about.run_id}"


def _rate(train: Sequence[Point]) -> float | None:
    """Steps a second over the last training figures; None with less than two."""
    recent = train[-RECENT:]
    if len(recent) < 2 or recent[-1].time <= recent[0].time:
        return None
    return (recent[-1].step - recent[0].step) / (recent[-1].time - recent[0].time)


def _table(*headings: str, left: int = 1) -> Table:
    """Without lines; all columns but the first `left` ones are figures."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right", no_wrap=True, overflow="ellipsis")
    return table
