"""What a storage says of its studies, read without a driver's part in them."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rasa.errors import SpecError
from studies.liveness import Watcher
from studies.points import Points
from studies.screen import progress, summary
from studies.space import Space
from studies.storage import Storage, faults
from studies.trials import IDENTITY, IMPORTED, OPTIONS, REASON, SKIPPED, SPACE, fixed, states, tally

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial


def study_of(storage: Storage, points: Points) -> "Study":
    """The study of this space and profile.

    Raises SpecError, naming those that there are, if there is none, and if it has another space, config or seeds. The
    data's digest is not compared: a benchmark that is not built here has none.
    """
    import optuna

    with faults(storage.shown):
        names = optuna.get_all_study_names(storage.optuna)
        if points.name not in names:
            there = f"; there is {', '.join(names)}" if names else ""
            raise SpecError(f"no study {points.name} in {storage.shown}{there}; `rasa study run` begins it")
        study = optuna.load_study(study_name=points.name, storage=storage.optuna)
        before = study.user_attrs.get(IDENTITY)
    if before is not None:
        points.refuse_other(_without_data(before), _without_data(points.identity()), storage.shown)
    return study


def names_of(storage: Storage) -> list[str]:
    """Of its studies, `NAME/PROFILE` each. Raises ResourceError."""
    import optuna

    with faults(storage.shown):
        return optuna.get_all_study_names(storage.optuna)


class Begun(NamedTuple):
    """A study as its record tells how it was begun. `space` is None where the record is of an older version."""

    name: str
    profile: str
    space: Space | None
    overrides: tuple[str, ...]
    seeds: list[int] | None


def begun(storage: Storage, name: str, profile: str = "", usual: str = "") -> Begun | None:
    """The study that the storage has under that name, with or without `/PROFILE`; None if there is none.

    Of several profiles the one that is given, else the `usual` one. Raises SpecError, naming them, if that leaves
    several.
    """
    import optuna

    with faults(storage.shown):
        found = [each for each in names_of(storage) if name in (each, each.rpartition("/")[0])]
        for wanted in (profile, usual):
            if len(found) > 1 and wanted:
                found = [each for each in found if each.rpartition("/")[2] == wanted] or found
        if profile:
            found = [each for each in found if each.rpartition("/")[2] == profile]
        if len(found) > 1:
            raise SpecError(f"{name} is the name of several studies: {', '.join(sorted(found))}; give one of these")
        if not found:
            return None
        attributes = optuna.load_study(study_name=found[0], storage=storage.optuna).user_attrs
    return _begun(found[0], attributes)


def _begun(name: str, attributes: Mapping[str, Any]) -> Begun:
    base, _, profile = name.rpartition("/")
    space, options = None, attributes.get(OPTIONS) or {}
    if (stored := attributes.get(SPACE)) is not None:
        space = Space.model_validate_json(json.dumps(stored))
        space._file = name
    overrides = tuple(str(text) for text in options.get("overrides") or ())
    seeds = (attributes.get(IDENTITY) or {}).get("seeds")
    return Begun(base, str(options.get("profile") or profile), space, overrides, seeds)


def _without_data(identity: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in identity.items() if name != "digests"}


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


def rows_of(space: Space, trials: "Sequence[FrozenTrial]", dead: Collection[int] = ()) -> list[dict[str, Any]]:
    """One row per trial that was trained, runs or waits; repeated points are left out. `dead`: whose driver is gone."""
    of = states(trials)
    return [_row(trial, of[trial.number], dead) for trial in trials if of[trial.number] != "skipped"]


def dead_trials(watcher: Watcher, trials: "Sequence[FrozenTrial]") -> set[int]:
    """Numbers of the running trials whose driver is known to be gone."""
    return {trial.number for trial in watcher.dead([t for t in trials if t.state.name == "RUNNING"], mine="")}


def _row(trial: "FrozenTrial", state: str, dead: Collection[int]) -> dict[str, Any]:
    attributes = trial.user_attrs
    note = str(attributes.get(REASON) or attributes.get(SKIPPED) or "")
    if state == "running":
        who, done, of, last = progress(trial)
        note = f"{who.partition(' on ')[2]}, epoch {done} of {of} {last}".rstrip()
        if trial.number in dead:
            note += "; its driver is gone, `rasa study run` goes on with it"
    if IMPORTED in attributes:
        note = f"from {attributes[IMPORTED]}"
    values = [float(value) for value in trial.values] if trial.values is not None else None
    return {"trial": trial.number, "state": state, "values": values, "point": dict(fixed(trial)), "note": note}
