"""From what `rasa plan --device-kind` is given to a forecast: rows, their data's sizes, which runs are to be made."""

from collections.abc import Sequence
from pathlib import Path

from experiments.forecast import Forecast, forecast
from experiments.hardware import device_of
from experiments.plan import data_reader, located, not_built
from experiments.plan import plan as plan_runs
from experiments.spec import resolve
from experiments.suite import Row, Suite
from experiments.targets import Target
from experiments.workload import SizesOfSplits, expected_sizes
from rasa.config.run import Config
from rasa.errors import SpecError

ROOT = "data.root"
DONE = ("finished", "stale", "running")


def foreseen(
    targets: Sequence[Target],
    profile: str | None,
    overrides: Sequence[str],
    seeds: Sequence[int],
    kind: str,
    count: int,
    workspace: Path,
) -> tuple[Forecast, str]:
    """The forecast, and on which data in words.

    Data that is not given is taken for the published one; runs are left out that have finished on given data. Raises
    SpecError and ResourceError.
    """
    device, read = device_of(kind), data_reader()
    configs: dict[str, Config] = {}
    sizes: dict[str, SizesOfSplits] = {}
    runs: list[tuple[int, str]] = []
    data = []
    for suite, rows, _ in targets:
        at = profile or suite.profile
        found, given = _configs(suite, rows, at, overrides)
        name = lambda row, suite=suite: row if len(targets) == 1 else f"{suite.suite}/{row}"
        for row, config in found.items():
            configs[name(row)], sizes[name(row)] = config, _sizes(config, given, workspace, read)
        if given:
            planned = plan_runs(suite, rows, at, overrides, seeds, workspace, read)
            left = [run.about for run in planned if run.state not in DONE and run.seconds != 0]
            runs += [(seeds.index(about.seed), name(about.row)) for about in left]
        else:
            runs += [(number, name(row)) for number in range(len(seeds)) for row in found]
        data.append(_words(suite, at, next(iter(found.values())), sizes[name(next(iter(found)))], given))
    if not runs:
        raise SpecError(f"{', '.join(data)}: all runs have finished or are running; nothing is left to plan")
    in_order = [row for _, row in sorted(runs, key=lambda run: run[0])]  # seed by seed, as they are run
    return forecast(configs, sizes, in_order, device, kind, count, workspace), "; ".join(data)


def _words(suite: Suite, profile: str, config: Config, sizes: SizesOfSplits, given: bool) -> str:
    captions = "/".join(f"{sizes[split]['captions']:,}" for split in ("train", "val", "test"))
    name = "the built-in benchmark" if config.data.root is None else config.data.format
    source = "" if given else ", as published"
    return f"{suite.suite} at {profile}, {name} with {captions} captions of train/val/test{source}"


def _configs(
    suite: Suite, rows: Sequence[Row], profile: str, overrides: Sequence[str]
) -> tuple[dict[str, Config], bool]:
    """By row, and whether the data is given."""
    try:
        return {row.name: resolve(suite, row, profile, overrides, 0) for row in rows}, True
    except SpecError:
        if any(text.startswith(f"{ROOT}=") for text in overrides):
            raise
    options = [*overrides, f"{ROOT}=."]
    return {row.name: resolve(suite, row, profile, options, 0) for row in rows}, False


def _sizes(config: Config, given: bool, workspace: Path, read: object) -> SizesOfSplits:
    found = None
    if given and not not_built(placed := located(config, workspace.resolve())):
        found = read(placed.data.model_dump_json()).sizes  # type: ignore[operator]
    found = found or expected_sizes(config.data)
    if found is None:
        raise SpecError(f"data.format {config.data.format}: its published sizes are not known; give data.root")
    return found
