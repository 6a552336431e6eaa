"""What a trial's record says: our attributes in it, and how trials add up to a budget."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from studies.points import point_name

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

IDENTITY, SPACE = "identity", "space"  # attributes of a study
OPTIONS = "options"  # too: the profile and the overrides of its newest `rasa study run`, as they were given
# Attributes of a trial, beside those of studies/liveness.py.
POINT = "point"  # names the runs' folder, and so the checkpoints
SEEDS, VALUES, SECONDS, EPOCHS = "seeds", "values_by_seed", "seconds", "epochs"
REASON = "reason"  # of one that failed, or was not trained
SKIPPED = "skipped"  # not trained: a repeated point, or one outside the constraints
IMPORTED = "imported"  # `suite/row` whose finished runs it stands for
RETRY_OF, DEATHS = "retry_of", "deaths"

State = Literal["waiting", "running", "complete", "pruned", "failed", "retried", "skipped"]


class Tally(NamedTuple):
    """How a study's trials stand. Only what was trained here counts against the budget."""

    complete: int = 0
    pruned: int = 0
    failed: int = 0
    running: int = 0
    waiting: int = 0
    retried: int = 0  # failed, and gone on with under another number
    skipped: int = 0
    imported: int = 0

    @property
    def settled(self) -> int:
        """Trials that have ended and will not be gone on with."""
        return self.complete + self.pruned + self.failed


def states(trials: "Sequence[FrozenTrial]") -> dict[int, State]:
    """The state of each trial by its number."""
    again = {trial.user_attrs.get(RETRY_OF) for trial in trials}
    return {trial.number: _state(trial, again) for trial in trials}


def tally(trials: "Sequence[FrozenTrial]") -> Tally:
    """The trials of a study, counted."""
    counts = dict.fromkeys(Tally._fields, 0)
    of = states(trials)
    for trial in trials:
        counts["imported" if IMPORTED in trial.user_attrs else of[trial.number]] += 1
    return Tally(**counts)


def visited(trials: "Sequence[FrozenTrial]", parameters: int) -> dict[str, int]:
    """The points that were tried, are, or will be, each with its first trial's number."""
    of, found = states(trials), dict[str, int]()
    for trial in trials:
        point = fixed(trial)
        if len(point) == parameters and of[trial.number] not in ("skipped", "retried"):
            found.setdefault(point_name(point), trial.number)
    return found


def fixed(trial: "FrozenTrial") -> Mapping[str, Any]:
    """The trial's point, also that of one that waits with given values."""
    return trial.system_attrs.get("fixed_params") or trial.params


def _state(trial: "FrozenTrial", again: set[Any]) -> State:
    if SKIPPED in trial.user_attrs:
        return "skipped"
    if trial.state.name == "FAIL":
        return "retried" if trial.number in again else "failed"
    names: dict[str, State] = {"WAITING": "waiting", "RUNNING": "running", "COMPLETE": "complete", "PRUNED": "pruned"}
    return names[trial.state.name]
