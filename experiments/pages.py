"""Reports and galleries as artifacts of one run of their suite's experiment. Asked for again, they are replaced."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.asking import pages
from experiments.filed import tag
from experiments.notes import described, renewed
from experiments.store import experiment_of, faults, open_store, parent_lock
from experiments.tracking import KIND, KIND_REPORT, PROFILE, REPORT, SUITE, VARIANT

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


class Of(NamedTuple):
    """Whose pages they are. `name`: as the report's folder is called, e.g. `table4-synth`."""

    suite: str
    profile: str
    name: str
    variant: str = ""  # what -o changed


def log_pages(uri: str, workspace: Path, of: Of, folder: Path, below: str, note: str = "") -> str:
    """Put what is in `folder` under `below` among the artifacts of the run of these pages, in place of what was there.

    The run is made if there is none. `note`: Markdown that is shown above it. Returns the run's id. Raises StoreFault.
    """
    client = open_store(uri)
    with faults(uri):
        with parent_lock(uri, workspace):
            run = _run(client, uri, workspace, of)
        _replace(run, uri, folder, below)
        if tags := renewed(described(note), run.data.tags) if note else {}:
            tag(client, run.info.run_id, dict(tags))
        if run.info.status == "RUNNING":
            client.set_terminated(run.info.run_id)
        return str(run.info.run_id)


def _run(client: "MlflowClient", uri: str, workspace: Path, of: Of) -> "Run":
    experiment = experiment_of(client, uri, workspace, of.suite)
    who = {KIND: KIND_REPORT, REPORT: of.name}
    if found := next(pages(client, experiment, who), None):
        return found
    name = f"report {of.name}"
    return client.create_run(
        experiment, run_name=name, tags=who | {SUITE: of.suite, PROFILE: of.profile, VARIANT: of.variant}
    )


def _replace(run: "Run", uri: str, folder: Path, below: str) -> None:
    """First what is new, then away with what is there no more: whoever looks meanwhile finds a whole page."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    there = get_artifact_repository(run.info.artifact_uri, tracking_uri=uri)
    there.log_artifacts(str(folder), below)
    new = {str(PurePosixPath(below, path.relative_to(folder).as_posix())) for path in folder.rglob("*")}
    for path in [*_files(there, below)]:
        if path not in new:
            there.delete_artifacts(path)


def _files(there: Any, below: str) -> Iterator[str]:
    for found in there.list_artifacts(below):
        if found.is_dir:
            yield from _files(there, found.path)
        else:
            yield found.path
