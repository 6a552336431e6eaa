"""Runs as pandas frames, for notebooks: read from a workspace's own records, no tracker needed.

>>> from reports import frame
>>> runs = frame.runs("work", fields=["objectives.p_weak"])
>>> runs.groupby("row")["test/r1"].agg(["mean", "std", "count"])
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.layers import flatten
from experiments.plan import state_of
from experiments.rundir import RESULT, SUPERSEDED, find_runs, read_about, read_config, read_points, read_result
from rasa.errors import ResourceError, SpecError

if TYPE_CHECKING:
    import pandas as pd

WHO = ("suite", "row", "profile", "seed", "variant", "state", "reason", "run_id", "data", "minutes", "directory")
# Groups of figures under their names in MLflow, by the part of result.json that holds them.
GROUPS = {"test": "test", "source": "source", "cost": "cost", "sensitivity": "probe"}


def runs(workspace: str | Path = ".", fields: Sequence[str] = ()) -> "pd.DataFrame":
    """One line for each run below `workspace`/runs, by suite, row, profile and seed.

    Columns:

    - `suite`, `row`, `profile`, `variant` (what `-o` changed), `run_id`, `data` (the data set's name): texts.
    - `seed`: a whole number; missing for `start`, the initial weights evaluated untrained.
    - `state`: finished, stale (finished, by other code than this), failed, interrupted or running; `reason`: what there
      is to say of it.
    - `minutes`: of training; `directory`: the run's folder, a Path.
    - a column for each figure, by the names of the reference: `test/r1`, `val/r1` (of the epoch that validation chose),
      `cost/peak_mib`, `probe/colour_apart`, ...: R@K and mAP in percent; missing where a run has none.
    - one for each config field in `fields`, by its dotted name, e.g. `objectives.p_weak`.

    Runs that a re-run has superseded are left out. Raises ResourceError if there is no run or a record cannot be read,
    SpecError for a field that no run has.
    """
    import pandas as pd

    place = Path(workspace)
    found = [directory for directory in find_runs(place) if not SUPERSEDED.search(directory.name)]
    if not found:
        raise ResourceError(f"{place / 'runs'}: no runs; give the folder in which `rasa run` was started")
    records = [_record(directory, fields) for directory in found]
    for field in fields:
        if not any(field in record for record in records):
            raise SpecError(f"fields: {field}: no run has it; `rasa show SUITE/ROW` prints those that there are")
    figures = sorted({name for record in records for name in record if "/" in name})
    table = pd.DataFrame(records, columns=[*WHO, *fields, *figures])
    table = table.astype({"seed": "Int64"})
    return table.sort_values(["suite", "row", "profile", "variant", "seed"], ignore_index=True)


def curves(directory: str | Path) -> "pd.DataFrame":
    """What a run reported on its way: columns `step`, `time` (UTC) and one a figure, e.g. `train/loss_itm`, `val/r1`.

    One line a step and group. Raises ResourceError if the folder holds no such record.
    """
    import pandas as pd

    points = read_points(Path(directory))
    if not points:
        raise ResourceError(f"{directory}: has reported nothing; give a run's folder, as in the column `directory`")
    lines = [
        {"step": point.step, "time": point.time}
        | {f"{point.group}/{name}": value for name, value in point.values.items()}
        for point in points
    ]
    table = pd.DataFrame(lines)
    return table.assign(time=pd.to_datetime(table["time"], unit="s", utc=True))


def _record(directory: Path, fields: Sequence[str]) -> dict[str, Any]:
    about = read_about(directory)
    state, reason = state_of(directory)
    result = read_result(directory / RESULT) or {}
    record: dict[str, Any] = {name: getattr(about, name) for name in ("suite", "row", "profile", "variant", "run_id")}
    record |= {"seed": None if about.untrained else about.seed, "state": state, "reason": reason}
    record |= {"data": about.data_name, "directory": directory}
    if "seconds" in result.get("cost", {}):
        record["minutes"] = result["cost"]["seconds"] / 60
    for part, group in GROUPS.items():
        record |= {f"{group}/{name}": value for name, value in result.get(part, {}).items()}
    chosen = result.get("selected", {}).get("val", {})
    record |= {f"val/{name}": value for name, value in chosen.items()}
    if fields:
        config = flatten(read_config(directory).model_dump(mode="json"))
        record |= {field: config[field] for field in fields if field in config}
    return record
