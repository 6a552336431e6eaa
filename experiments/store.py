"""Opening an MLflow store: which one, without chatter, and safely when many processes do it at once."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from experiments.rundir import RUNS
from rasa.errors import ResourceError
from rasa.lock import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
SQLITE = "sqlite:///"
SCHEMES = ("http", "https", "databricks", "postgresql", "mysql", "mssql")  # beside sqlite; the databases are MLflow's


class StoreFault(ResourceError):
    """The store is away, or refuses: not a fault of the run that was to be delivered."""


def tracking_uri(workspace: Path, explicit: str | None = None) -> str:
    """The store to write to: as given, or MLFLOW_TRACKING_URI, or a sqlite file in the workspace.

    Raises ResourceError for what is no address of a store, or of one that MLflow gives up (files).
    """
    variable = os.environ.get("MLFLOW_TRACKING_URI")
    uri = explicit or variable or default_uri(workspace)
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if not uri.startswith(SQLITE) and scheme not in SCHEMES and uri != "databricks":
        source = "--tracking-uri" if explicit else "MLFLOW_TRACKING_URI"
        raise ResourceError(f"{source}: {uri!r} is no store of runs; use {SQLITE}FILE.db or http://HOST:PORT")
    return uri


def default_uri(workspace: Path) -> str:
    """The sqlite file beside a workspace's runs."""
    return f"{SQLITE}{workspace.resolve() / DATABASE}"


def open_store(uri: str) -> "MlflowClient":
    """A client for `uri`, without MLflow's chatter; short timeouts, so that a slow server cannot hold up a run.

    Raises StoreFault if the store cannot be opened.
    """
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if uri.startswith(SQLITE) and set("%?") & set(uri.removeprefix(SQLITE)):
        raise StoreFault(f"{uri}: a sqlite address cannot hold % or ?; use another folder or --tracking-uri")
    with warnings.catch_warnings():
        # Of MLflow's own libraries, at import and when tables are made; a user can do nothing about them.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong comes as an exception, too
        with faults(uri), _store_lock(uri):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)  # makes the tables of a fresh store: one process at a time
            return client


def artifact_location(uri: str, workspace: Path) -> str | None:
    """Beside a sqlite store, in the workspace for another database, a server's own choice otherwise."""
    if urlsplit(uri).scheme in ("http", "https", "databricks", ""):
        return None
    return ((_sqlite_file(uri) or workspace.resolve() / DATABASE).parent / ARTIFACTS).as_uri()


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)).resolve() if uri.startswith(SQLITE) else None


@contextmanager
def parent_lock(uri: str, workspace: Path) -> Iterator[None]:
    """Two drivers must not both make the parent run of a row; held only for that."""
    file = _sqlite_file(uri)
    with locked(_lock_of(file) if file else workspace / RUNS / ".tracking.lock"):
        yield


@contextmanager
def _store_lock(uri: str) -> Iterator[None]:
    """Only one process at a time makes the tables of a sqlite store: eight at once would all die."""
    if (file := _sqlite_file(uri)) is None:
        yield
        return
    with locked(_lock_of(file)):
        yield


def _lock_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


@contextmanager
def faults(uri: str) -> Iterator[None]:
    """Faults of the store, of whichever of its libraries, as a StoreFault of one line."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (mlflow_error(), SQLAlchemyError, OSError) as error:
        # Of a chain of wrapped errors the innermost says what happened, e.g. that the connection was refused.
        text = " ".join(str(error).split()).rpartition("(Caused by ")[2].partition(" [SQL: ")[0]
        raise StoreFault(f"{uri}: {text[:200]}") from error


def mlflow_error() -> Any:
    from mlflow.exceptions import MlflowException

    return MlflowException
