"""A run, or a suite with all its runs, as one file that anyone can check: a published report, zipped.

It holds the specs, each run's code (commit, uncommitted changes), environment, digests of data and weights, what it
found of each query, its figures, and the report that follows from them. Weights and data are too large for it.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import rasa
from experiments.boundaries import MOST
from experiments.plan import state_of
from experiments.records import Record, read_run
from experiments.rundir import START, find_runs, read_about, read_config, workspace_of
from experiments.start import re_ranks, start_digest
from experiments.statistics import RESAMPLES
from experiments.steps import MARGIN
from experiments.suite import HEADINGS, Suite
from experiments.yaml_io import dump
from rasa.config.run import Config
from rasa.errors import RasaError, ResourceError
from reports.archive import pack
from reports.publication import MANIFEST, RECORDS, SPECS, Evaluated, Manifest, digests
from reports.publish import last_ended, publish, write_record, write_report
from reports.recorded import report_of
from reports.verdict import SEED
from reports.verify import faults


def bundle_suite(
    suite: Suite,
    profile: str,
    overrides: Sequence[str],
    uri: str,
    file: Path,
    margin: float = MARGIN,
    most: int = MOST,
    workspace: Path = Path(),
) -> tuple[Manifest, int]:
    """Write the report of these runs and all that it follows from into the zip `file`; its manifest and its bytes.

    Raises what `publish` raises.
    """
    with TemporaryDirectory(prefix="rasa-bundle-") as place:
        folder = Path(place) / "bundle"
        manifest = publish(suite, profile, overrides, uri, folder, margin, most, workspace, settled=True)
        return manifest, pack(folder, file)


def bundle_run(directory: Path, file: Path) -> tuple[Manifest, int]:
    """The same of one finished run, from its directory alone: a table of one row, and of its start if that is there.

    Raises ResourceError if the run has not finished, lacks what a record needs, or is a start.
    """
    record, config = read_run(directory), read_config(directory)
    if record.about.untrained:
        raise ResourceError(f"{directory}: the evaluation of a start, which belongs to its suite; bundle that")
    starts = [read_run(each) for each in _starts(directory, config)]
    with TemporaryDirectory(prefix="rasa-bundle-") as place:
        folder = Path(place)
        manifest = _written(folder, record, starts, config)
        if fault := next(faults(folder, manifest), None):
            raise RasaError(f"{file}: not written, for its table does not follow from its record: {fault}")
        return manifest, pack(folder, file)


def _written(folder: Path, record: Record, starts: Sequence[Record], config: Config) -> Manifest:
    about = record.about
    for each in (record, *starts):
        write_record(each, folder / RECORDS)
    (folder / SPECS).mkdir()
    (folder / SPECS / f"{about.suite}.yaml").write_text(dump(_suite(record)), encoding="utf-8")
    manifest = Manifest(
        version=rasa.__version__,
        suite=f"{about.suite}.yaml",
        profile=about.profile,
        overrides=(),
        margin=MARGIN,
        max_seeds=MOST,
        resamples=RESAMPLES,
        resamples_seed=SEED,
        variant=about.variant,
        made=last_ended([record, *starts]),
        command=f"rasa bundle {about.run_id}",
        notes=(),
        runs=(record.folder,),
        starts=tuple(Evaluated(record=each.folder, rows=(about.row,)) for each in starts),
        stage1=() if re_ranks(config) else (about.row,),
        unfinished=(),
        files={},
    )
    write_report(report_of(folder, manifest), folder)
    manifest = manifest.model_copy(update={"files": digests(folder)})
    (folder / MANIFEST).write_text(manifest.text(), encoding="utf-8")
    return manifest


def _suite(record: Record) -> dict[str, object]:
    """A suite of the run's row alone, as its own record tells it: the file that it was in may be another by now."""
    about = record.about
    row: dict[str, object] = {"name": about.row, "labels": [*about.labels.values()]}
    if about.paper:
        row["paper"] = about.paper
    return {
        "suite": about.suite,
        "title": about.title,
        "labels": [*about.labels],
        "metrics": [name for name in HEADINGS if name in record.result.get("test", {})],
        "profile": about.profile,
        "rows": [row],
    }


def _starts(directory: Path, config: Config) -> list[Path]:
    """Of the suite in the run's workspace, the evaluation of the weights that the run began with."""
    own, wanted = read_about(directory), start_digest(config)
    if config.model.weights is None:
        return []
    found = []
    for each in find_runs(workspace_of(directory.absolute()), own.suite):
        about = read_about(each)
        same = (about.profile, about.data_digest, about.weights_digest, about.row_digest)
        if about.row == START and same == (own.profile, own.data_digest, own.weights_digest, wanted):
            found.append(each)
    return [each for each in found if state_of(each)[0] in ("finished", "stale")][:1]
