"""What a storage says of its studies, read without a driver's part in them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rasa.errors import SpecError
from studies.points import Points
from studies.screen import progress, summary
from studies.space import Space
from studies.storage import Storage, faults
from studies.trials import IMPORTED, REASON, SKIPPED, fixed, states, tally

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def study_of(storage: Storage, points: Points) -> "Study":
    """The study of this space and profile. Raises SpecError, naming those that there are, if there is none."""
    import optuna

    with faults(storage.shown):
        names = optuna.get_all_study_names(storage.optuna)
        if points.name not in names:
            there = f"; there is {', '.join(names)}" if names else ""
            raise SpecError(f"no study {points.name} in {storage.shown}{there}; `rasa study run` begins it")
        return optuna.load_study(study_name=points.name, storage=storage.optuna)


def trials_of(storage: Storage, points: Points) -> "list[FrozenTrial]":
    """The trials of a study, by number. Raises SpecError if there is no such study."""
    with faults(storage.shown):
        return study_of(storage, points).get_trials(deepcopy=False)


def overview(storage: Storage) -> list[dict[str, Any]]:
    """Every study of the storage: its name, and how many of its trials are how."""
    import optuna

    rows = []
    with faults(storage.shown):
        for name in optuna.get_all_study_names(storage.optuna):
            study = optuna.load_study(study_name=name, storage=storage.optuna)
            counts = tally(study.get_trials(deepcopy=False))
            rows.append({"study": name, "summary": summary(counts), **counts._asdict()})
    return rows


def rows_of(space: Space, trials: "Sequence[FrozenTrial]") -> list[dict[str, Any]]:
    """One row per trial that was trained, runs or waits; repeated points are left out."""
    of = states(trials)
    return [_row(trial, of[trial.number]) for trial in trials if of[trial.number] != "skipped"]


def _row(trial: "FrozenTrial", state: str) -> dict[str, Any]:
    attributes = trial.user_attrs
    note = str(attributes.get(REASON) or attributes.get(SKIPPED) or "")
    if state == "running":
        who, done, of, last = progress(trial)
        note = f"{who.partition(' on ')[2]}, epoch {done} of {of} {last}".rstrip()
    if IMPORTED in attributes:
        note = f"from {attributes[IMPORTED]}"
    values = [float(value) for value in trial.values] if trial.values is not None else None
    return {"trial": trial.number, "state": state, "values": values, "point": dict(fixed(trial)), "note": note}
