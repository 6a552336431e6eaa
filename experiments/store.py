"""Opening an MLflow store: which one, without chatter, and safely when many processes do it at once."""

import atexit
import logging
import os
import shutil
import sqlite3
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from experiments.databases import EXTRA, advisory_lock, is_postgres, shown, with_driver
from experiments.rundir import RUNS
from rasa.errors import ResourceError
from rasa.lock import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
ACTIVE = "active"  # an experiment or a run that is not deleted
SQLITE = "sqlite:///"
LOCATION = "artifact_location"  # a column of MLflow's tables
SQLITE_PATIENCE = 60  # seconds for which another writer is waited for
SCHEMES = (
    "http",
    "https",
    "databricks",
    "postgresql",
    "postgres",
    "mysql",
    "mssql",
)  # beside sqlite; the databases are MLflow's


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
        raise ResourceError(f"{source}: {shown(uri)!r} is no store of runs; use {SQLITE}FILE.db or http://HOST:PORT")
    file = _sqlite_file(uri)  # whole: a file's name alone means another store in another folder
    return f"{SQLITE}{file}" if file else with_driver(uri)


def default_uri(workspace: Path) -> str:
    """The sqlite file beside a workspace's runs."""
    return f"{SQLITE}{workspace.resolve() / DATABASE}"


def open_store(uri: str, reading: bool = False) -> "MlflowClient":
    """A client for `uri`, without MLflow's chatter; short timeouts, so that a slow server cannot hold up a run.

    `reading`: a store on a disk that is only read is opened as well. Raises StoreFault if the store cannot be opened.
    """
    os.environ.update(MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true")
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    if reading and (file := _sqlite_file(uri)) and file.is_file() and not _writable(file):
        uri = f"{SQLITE}{_readable_copy(file)}"  # MLflow locks and migrates what it opens
    if uri.startswith(SQLITE) and set("%?") & set(uri.removeprefix(SQLITE)):
        raise StoreFault(f"{uri}: a sqlite address cannot hold % or ?; use another folder or --tracking-uri")
    with warnings.catch_warnings():
        # Of MLflow's own libraries, at import and when tables are made; a user can do nothing about them.
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # what goes wrong comes as an exception, too
        with faults(uri), _store_lock(uri):
            if file := _sqlite_file(uri):
                _follow_move(file)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)  # makes the tables of a fresh store: one process at a time
            return client


def _follow_move(database: Path) -> None:
    """Where a store was moved or copied together with its files, have it say where they are now.

    MLflow writes absolute places into its tables: what came later would be written to the old place.
    """
    if not database.is_file() or not os.access(database, os.W_OK):
        return
    here = (database.parent / ARTIFACTS).as_uri()
    with closing(sqlite3.connect(database, timeout=SQLITE_PATIENCE)) as connection, connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
        if not {"experiments", "runs"} <= tables:
            return
        found = connection.execute("select distinct artifact_location from experiments").fetchall()
        for (old,) in found:
            # Ours alone end so; those that MLflow makes by itself end with the experiment's number.
            if old and old != here and old.startswith("file:") and old.endswith(f"/{ARTIFACTS}"):
                begins = "substr(artifact_uri, 1, length(:old) + 1) = :old || '/'"
                renamed = (
                    f"update runs set artifact_uri = :here || substr(artifact_uri, length(:old) + 1) where {begins}"
                )
                moved = "update experiments set artifact_location = :here where artifact_location = :old"
                models = f"update logged_models set {LOCATION} = :here || substr({LOCATION}, length(:old) + 1)"
                models += f" where substr({LOCATION}, 1, length(:old) + 1) = :old || '/'"
                for statement in (renamed, moved, *([models] if "logged_models" in tables else [])):
                    connection.execute(statement, {"here": here, "old": old})


def _writable(database: Path) -> bool:
    return os.access(database, os.W_OK) and os.access(database.parent, os.W_OK)


def _readable_copy(database: Path) -> Path:
    """The store's file where it can be opened; it goes when the program ends."""
    folder = Path(mkdtemp(prefix="rasa-store-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for file in database.parent.glob(f"{database.name}*"):  # a write-ahead log beside it belongs to it
        shutil.copyfile(file, folder / file.name)
    return folder / database.name


@contextmanager
def bulk(client: "MlflowClient", uri: str) -> Iterator[None]:
    """Many writes to a sqlite store in a row, with a write-ahead log.

    They are as safe as before, without waiting for the disk at each. It ends with the context. If other programs have
    the store open, the log stays until the last of them closes it.
    """
    # MLflow has no public way to the connections; without them a sync is as right, and slower.
    store = getattr(getattr(client, "_tracking_client", None), "store", None)
    file, engine = _sqlite_file(uri), getattr(store, "engine", None)
    if file is None or engine is None:
        yield
        return
    from sqlalchemy import event

    def less_waiting(connection: Any, record: object) -> None:
        connection.execute("pragma synchronous = normal")

    engine.dispose()
    _journal(file, "wal")
    event.listen(engine, "connect", less_waiting)
    try:
        yield
    finally:
        event.remove(engine, "connect", less_waiting)
        engine.dispose()
        _journal(file, "delete")


def _journal(database: Path, mode: str) -> None:
    with closing(sqlite3.connect(database, timeout=1)) as connection, suppress(sqlite3.OperationalError):
        connection.execute(f"pragma journal_mode = {mode}")  # refused while another program has the store open: no harm


def experiment_of(
    client: "MlflowClient",
    uri: str,
    workspace: Path,
    name: str,
    tags: Callable[[Mapping[str, str]], Mapping[str, str]] = lambda had: {},
) -> str:
    """The id of the experiment of that name: made if there is none, brought back if it was deleted.

    `tags`: those to be set, by those that it has.
    """
    found = client.get_experiment_by_name(name)
    if found is None:
        location = artifact_location(uri, workspace)
        try:
            return client.create_experiment(name, artifact_location=location, tags=dict(tags({})))
        except mlflow_error():
            if (found := client.get_experiment_by_name(name)) is None:  # else another host was faster
                raise
    if found.lifecycle_stage != ACTIVE:
        client.restore_experiment(found.experiment_id)
    for key, value in tags(found.tags).items():
        client.set_experiment_tag(found.experiment_id, key, value)
    return found.experiment_id


def artifact_location(uri: str, workspace: Path) -> str | None:
    """Beside a sqlite store, in the workspace for another database, a server's own choice otherwise."""
    if urlsplit(uri).scheme in ("http", "https", "databricks", ""):
        return None
    return ((_sqlite_file(uri) or workspace.resolve() / DATABASE).parent / ARTIFACTS).as_uri()


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix(SQLITE)).resolve() if uri.startswith(SQLITE) else None


@contextmanager
def parent_lock(uri: str, workspace: Path) -> Iterator[None]:
    """Two drivers must not both make the parent run of a row; held only for that.

    Of a PostgreSQL it holds for the drivers of all machines, of another server for those of one workspace.
    """
    file = _sqlite_file(uri)
    with (
        _in_database(uri, "rows")
        if is_postgres(uri)
        else locked(_lock_of(file) if file else workspace / RUNS / ".tracking.lock")
    ):
        yield


def holds_for_all(uri: str) -> bool:
    """Whether `parent_lock` holds for whoever else writes to the store, also on other machines."""
    return is_postgres(uri) or uri.startswith(SQLITE)


@contextmanager
def _store_lock(uri: str) -> Iterator[None]:
    """Only one process at a time makes the tables of a database: eight at once would all die."""
    if is_postgres(uri):
        with _in_database(uri, "tables"):
            yield
    elif file := _sqlite_file(uri):
        with locked(_lock_of(file)):
            yield
    else:
        yield


@contextmanager
def _in_database(uri: str, what: str) -> Iterator[None]:
    with ExitStack() as stack:
        with faults(uri):
            stack.enter_context(advisory_lock(uri, f"tracker {what}"))
        yield


def _lock_of(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


@contextmanager
def faults(uri: str) -> Iterator[None]:
    """Faults of the store, of whichever of its libraries, as a StoreFault of one line."""
    from alembic.util import CommandError  # tables of a later version of MLflow
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:
        raise StoreFault(f"{shown(uri)}: {error}" + (f"; {EXTRA}" if is_postgres(uri) else "")) from error
    except (mlflow_error(), SQLAlchemyError, CommandError, sqlite3.Error, OSError) as error:
        # Of a chain of wrapped errors the innermost says what happened, e.g. that the connection was refused.
        text = " ".join(str(error).split()).rpartition("(Caused by ")[2].partition(" [SQL: ")[0]
        raise StoreFault(f"{shown(uri)}: {text[:200]}") from error


def mlflow_error() -> Any:
    from mlflow.exceptions import MlflowException

    return MlflowException
