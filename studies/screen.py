"""What a person sees of a study on stderr: all drivers' trials, as bars on a terminal, and plain lines elsewhere."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import TaskID

from experiments.plan import PlannedRun
from experiments.progress import Bars
from studies.liveness import BEAT, DRIVER
from studies.space import Space
from studies.trials import Tally, tally

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.trial import FrozenTrial


class Screen(Bars):
    """Follows one study; used as a context."""

    def __init__(self, space: Space, console: Console | None = None):
        super().__init__(console=console)
        self._space, self._all = space, self._bars.add_task("trials", total=None, note="")
        self._tasks: dict[int, TaskID] = {}  # by trial

    def began(self, trial: "Trial", runs: Sequence[PlannedRun]) -> None:
        """A trial begins, or goes on."""
        point = ", ".join(f"{name.rpartition('.')[2]} {short(value)}" for name, value in trial.params.items())
        resumed = any(run.state == "interrupted" for run in runs)
        self.notify(f"trial {trial.number}: {'resumed' if resumed else 'started'}, {point}")

    def ended(self, trial: "Trial", how: str) -> None:
        """A trial ended, or was interrupted."""
        self.notify(f"trial {trial.number}: {how}")

    def values(self, by_seed: Sequence[Sequence[float]]) -> str:
        """`val/r1 43.20 (42.10, 44.30)`."""
        texts = []
        for number, objective in enumerate(self._space.objectives):
            each = [values[number] for values in by_seed]
            single = f" ({', '.join(f'{value:.2f}' for value in each)})" if len(each) > 1 else ""
            texts.append(f"{objective.metric} {sum(each) / len(each):.2f}{single}")
        return "complete, " + ", ".join(texts)

    def show(self, trials: "Sequence[FrozenTrial]", total: int) -> None:
        """Bring the bars up to date with the storage."""
        counts = tally(trials)
        self._bars.update(self._all, total=total, completed=counts.settled, note=summary(counts))
        running = {trial.number: trial for trial in trials if trial.state.name == "RUNNING"}
        for number in self._tasks.keys() - running.keys():
            self._bars.remove_task(self._tasks.pop(number))
        for number, trial in running.items():
            description, done, of, note = progress(trial)
            if number not in self._tasks:
                self._tasks[number] = self._bars.add_task(description, total=of, note="")
            self._bars.update(self._tasks[number], description=description, completed=done, total=of, note=note)


def progress(trial: "FrozenTrial") -> tuple[str, int, int, str]:
    """A running trial: who and where, epochs done, of how many, and its last value."""
    beat: dict[str, Any] = trial.user_attrs.get(BEAT) or {}
    machine = str(trial.user_attrs.get(DRIVER, "?")).rpartition("-")[0] or "?"
    seeds, epochs = int(beat.get("seeds", 1)), int(beat.get("epochs", 0))
    done = int(beat.get("seed", 0)) * epochs + int(beat.get("epoch", 0))
    value = beat.get("value")
    return f"trial {trial.number} on {machine}", done, seeds * epochs, "" if value is None else f"last {value:.2f}"


def summary(counts: Tally) -> str:
    """`12 complete, 3 pruned, 1 failed`, and what else there is."""
    return ", ".join(f"{count} {name}" for name, count in counts._asdict().items() if count) or "no trials yet"


def short(value: Any) -> str:
    """A parameter's value, in few digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
