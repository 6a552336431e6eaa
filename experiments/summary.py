"""What a row's run says of its seeds: mean, standard deviation and n of every figure, and what all were told."""

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from statistics import fmean, stdev
from typing import TYPE_CHECKING, NamedTuple, get_args

from pydantic import BaseModel

from experiments.tracking import SEED, STATE, VAL, VAL_LAST
from rasa.config.run import Config

if TYPE_CHECKING:
    from mlflow.entities import Run

SD, N = "_sd", "_n"
INFINITE = 1e308  # databases keep an infinite figure as 1.8e308
CLOSE = 1e-12  # relative: a figure that a database has rounded is the same


class Seed(NamedTuple):
    """A seed's run as its row sees it. `began` in ms since 1970, `figures` at their last step."""

    run: str
    seed: str
    state: str
    status: str
    began: int
    figures: Mapping[str, float]
    params: Mapping[str, str]


def seed_of(run: "Run") -> Seed:
    """As the store has it."""
    tags, info = run.data.tags, run.info
    state, metrics = tags.get(STATE, ""), run.data.metrics
    return Seed(info.run_id, tags.get(SEED, ""), state, info.status, info.start_time, metrics, run.data.params)


def summary(seeds: Iterable[Seed]) -> dict[str, float]:
    """Of the finished seeds' figures: the mean by its name, and with `_sd` (from two seeds) and `_n` spread and number.

    The spread is the standard deviation of the sample. Of several trainings of one seed the newest counts, as in
    reports.
    """
    newest: dict[str, Seed] = {}
    for one in sorted(seeds, key=lambda one: (one.began, one.run)):
        if one.state == "finished":
            newest[one.seed] = one
    values: dict[str, list[float]] = {}
    for _, one in sorted(newest.items()):
        for name, value in _figures(one.figures).items():
            values.setdefault(name, []).append(value)
    found: dict[str, float] = {}
    for name, of_seeds in sorted(values.items()):
        found[name] = fmean(of_seeds)
        if len(of_seeds) > 1:
            found[name + SD] = stdev(of_seeds)
        found[name + N] = float(len(of_seeds))
    return found


def differs(wanted: Mapping[str, float], had: Mapping[str, float]) -> bool:
    """Whether a row has other figures than these."""
    return any(not math.isclose(had.get(name, math.nan), value, rel_tol=CLOSE) for name, value in wanted.items())


def shared(seeds: Iterable[Seed]) -> dict[str, str]:
    """The parameters that all seeds share now, and will: not where or how fast a run happens, nor the seed."""
    told = [one.params for one in seeds if one.params]
    if not told:
        return {}
    return {
        name: value
        for name, value in told[0].items()
        if name not in own_fields() and all(params.get(name) == value for params in told)
    }


@cache
def own_fields() -> frozenset[str]:
    """Config fields that are each run's own, dotted: the seed, and what is not part of a run's id."""
    return frozenset({"seed", *_own(Config, "")})


def _own(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and extra.get("identity", True) is False:
            yield prefix + name
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _own(kind, f"{prefix}{name}.")


def _figures(metrics: Mapping[str, float]) -> dict[str, float]:
    """A seed's figures that are numbers.

    Those of validation only if they are of the chosen epoch: what earlier versions sent under that name is the last's.
    """
    chosen = any(name.startswith(f"{VAL_LAST}/") for name in metrics)
    return {
        name: value
        for name, value in metrics.items()
        if abs(value) < INFINITE and (chosen or not name.startswith(f"{VAL}/"))
    }
