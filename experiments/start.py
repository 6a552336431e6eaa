"""The start is a row: what initial weights reach before any training, evaluated once for all rows and seeds from them.

Fine-tuning that does not beat the weights that it starts from has shown nothing. So a suite whose rows have
`model.weights` also evaluates those, once per data set, weights and retrieval settings, and files that as its row
`start`: a run directory like a run's, under an id in which nothing of training counts.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from experiments.estimates import AT_LEAST, measured_seconds, usual_work
from experiments.layers import flatten
from experiments.plan import (
    PlannedRun,
    Read,
    about_of,
    data_reader,
    inputs_of,
    located,
    placed,
)
from experiments.rundir import RESULT, RUNS, START, read_result
from experiments.spec import identity_of, load_profile, resolve, seedless_digest
from experiments.suite import Row, Suite
from experiments.workload import SizesOfSplits, expected_sizes, start_flops
from rasa.config.fidelity import Fidelity
from rasa.config.run import Config, Data, Model, Objectives, Optimisation
from rasa.errors import SpecError

LABEL = "start (no training)"
OF_TRAINING = ("dropout", "queue_size", "momentum", "temperature", "temperature_range")  # of the model's fields
OF_RANKING = ("ranking_score", "beyond_topk")  # of fidelity's
COUNTED = ("data", "model", "evaluation", "fidelity")  # sections that decide how untrained weights rank
SHOWN = 3  # fields in a label
CROWDED = 0.9  # a start that reaches this share of the best row leaves no room to tell rows apart


def start_config(config: Config) -> Config:
    """The config that evaluates a run's initial weights: what decides how they rank is the run's, all else default."""
    usual: dict[str, Any] = {name: Model.model_fields[name].default for name in OF_TRAINING}
    ranking = {name: getattr(config.fidelity, name) for name in OF_RANKING}
    optimisation = config.optimisation
    sections = {
        "seed": 0,
        "data": config.data.model_copy(update={"flip_probability": Data.model_fields["flip_probability"].default}),
        "model": config.model.model_copy(update=usual),
        "objectives": Objectives(weights={"cl": 1.0, "itm": 1.0}),
        "optimisation": Optimisation(device=optimisation.device, threads=optimisation.threads),
        "evaluation": config.evaluation.model_copy(update={"selection_gap": False, "detectors": False}),
        "fidelity": Fidelity.model_validate({"preset": "paper", **ranking}),
    }
    return config.model_copy(update=sections)


def start_digest(config: Config) -> str:
    """12 hex digits, equal for runs whose initial weights are ranked alike: the `row_digest` of their start."""
    return seedless_digest(_identity(start_config(config)))


def re_ranks(config: Config) -> bool:
    """Whether a run's own figures are stage 2's; else (row CL) they are stage 1's, to be compared with a start's."""
    return "itm" in config.objectives.weights


def plan_starts(
    suite: Suite,
    rows: Sequence[Row],
    profile: str,
    overrides: Sequence[str],
    workspace: Path,
    read: Callable[[str], Read] | None = None,
) -> list[PlannedRun]:
    """The evaluations of the weights that these rows start from, each once; rows that start at random have none.

    Reads, and never builds data. Raises SpecError and ResourceError.
    """
    name, workspace, read = load_profile(profile).profile, workspace.resolve(), read or data_reader()
    variants = _variants(suite, profile, overrides)
    found: dict[str, PlannedRun] = {}
    for row in rows:
        config = resolve(suite, row, profile, overrides, 0)
        if config.model.weights is not None:
            run = _planned(suite, name, row, config, variants[_key(config)], workspace, read)
            found.setdefault(run.about.run_id or _key(config), run)
    return list(found.values())


def _planned(
    suite: Suite, profile: str, row: Row, config: Config, variant: str, workspace: Path, read: Callable[[str], Read]
) -> PlannedRun:
    run = located(config, workspace)
    own = start_config(run)
    data, weights = inputs_of(run, read)  # with the row's own section, which has been read for its runs already
    line = Row(name=START, labels=line_labels(suite, variant))
    about = about_of(suite, line, profile, own, _identity(own), data, weights)
    about = about.model_copy(update={"variant": variant, "expected_minutes": None})
    return placed(about, own, workspace, _seconds(suite, row, profile, own, data.sizes, workspace))


def without_headroom(starts: Sequence[PlannedRun], runs: Sequence[PlannedRun]) -> Iterator[str]:
    """A sentence for each start whose validation R@1 is above nine tenths of the best finished row's, like with like.

    That is the best row that re-ranks; if none of these has finished, the best by stage 1 beside the start's stage 1.
    """
    for start in starts:
        reached = _validation(start)
        own = [run for run in runs if starts_from(run, start)]
        for ranked, figure in ((True, "r1"), (False, "stage1_r1")):
            rows = _means([run for run in own if re_ranks(run.config) == ranked])
            if not reached or not rows:
                continue
            best = max(rows, key=lambda row: rows[row])
            if reached[figure] > CROWDED * rows[best]:
                yield (
                    f"{start.about.name} reaches {reached[figure]:.1f} R@1 on validation with no training, the best "
                    f"finished row ({best}) {rows[best]:.1f}: there is little headroom in which rows could differ"
                )
            break


def starts_from(run: PlannedRun, start: PlannedRun) -> bool:
    """Whether a run begins with the weights of this start, and is measured as that is."""
    about, other = run.about, start.about
    same = (about.data_digest, about.weights_digest) == (other.data_digest, other.weights_digest)
    return same and start_digest(run.config) == other.row_digest


def _means(runs: Sequence[PlannedRun]) -> dict[str, float]:
    """Validation R@1 of the selected weights by row, the mean over its finished seeds."""
    values: dict[str, list[float]] = {}
    for run in runs:
        if found := _validation(run):
            values.setdefault(run.about.row, []).append(found["r1"])
    return {row: fmean(each) for row, each in values.items()}


def _validation(run: PlannedRun) -> Mapping[str, float]:
    """The selected weights' figures on validation; nothing before the run has finished."""
    result = read_result(run.directory / RESULT) if run.directory is not None else None
    figures: Mapping[str, float] = ((result or {}).get("selected") or {}).get("val") or {}
    return figures


def _identity(own: Config) -> dict[str, Any]:
    identity = identity_of(own)
    return {name: identity[name] for name in COUNTED}


def _key(config: Config) -> str:
    """Equal for rows with their start in common, as far as the config tells (the data's content does not count)."""
    return json.dumps(_named(config), sort_keys=True)


def _named(config: Config) -> dict[str, Any]:
    """What a start depends on, by dotted field, with places of files; for words, since an identity has digests."""
    own = flatten(start_config(config).model_dump(mode="json", include=set(COUNTED)))
    unused = "data.synthetic." if config.data.root is not None else None
    return {name: value for name, value in own.items() if unused is None or not name.startswith(unused)}


def _variants(suite: Suite, profile: str, overrides: Sequence[str]) -> dict[str, str]:
    """By `_key`, in what each start of the suite differs from its others; nothing if there is one.

    For example `synthetic.noise 0.5`. Of the whole suite, whichever rows are asked for, so that one start has one name.
    """
    starts: dict[str, dict[str, Any]] = {}
    for row in suite.rows:
        try:
            config = resolve(suite, row, profile, overrides, 0)
        except SpecError:  # not asked for, or its own plan says so
            continue
        if config.model.weights is not None:
            starts[_key(config)] = _named(config)
    fields = dict.fromkeys(name for named in starts.values() for name in named)
    differing = [name for name in fields if len({json.dumps(named.get(name)) for named in starts.values()}) > 1]
    differing.sort(key=lambda name: not name.startswith(("model.weights", "model.backbone")))
    return {key: _told(named, differing) for key, named in starts.items()}


def _told(named: Mapping[str, Any], differing: Sequence[str]) -> str:
    texts = [f"{name.partition('.')[2]} {named[name]}" for name in differing if named.get(name) is not None]
    return ", ".join([*texts[:SHOWN], *(["..."] if len(texts) > SHOWN else [])])


def line_labels(suite: Suite, variant: str, what: str = LABEL) -> tuple[str, ...]:
    """The cells of its line in the suite's label columns: in the last, what it is and in what it differs."""
    return (*[""] * (len(suite.labels) - 1), f"{what}, {variant}" if variant else what)


def _seconds(
    suite: Suite, row: Row, profile: str, own: Config, sizes: SizesOfSplits | None, workspace: Path
) -> float | None:
    """As starts of this profile took; before any, the share of what the suite states for a row that it computes."""
    measured = measured_seconds((workspace / RUNS).glob(f"*/{START}/{profile}/seed-*/{RESULT}"))
    if measured:
        return fmean(measured)
    minutes, usual = suite.expected_minutes.get(profile), usual_work(suite, row, profile)
    sizes = sizes or expected_sizes(own.data)
    if minutes is None or usual is None or sizes is None:
        return None
    return max(AT_LEAST, 60 * minutes * start_flops(own, sizes) / usual.total)
