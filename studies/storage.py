"""Where trials are recorded: Optuna's journal on a shared disk, sqlite for one driver, PostgreSQL for many machines."""

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.databases import CONNECT_SECONDS, EXTRA, advisory_lock, is_postgres, shown, with_driver
from experiments.rundir import read_json, write_json
from rasa.errors import ResourceError
from rasa.lock import Lock, locked

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

STUDIES, JOURNAL = "studies", "journal.log"
ELSEWHERE = "storages.json"  # beside the journal: which studies are in another storage
JOURNAL_SCHEME, SQLITE_SCHEME = "journal:///", "sqlite:///"
TRIALS, FILING = "trials", "filing"  # what is exclusive: handing out and ending trials; filing them in MLflow
BUSY_SECONDS = 60
FORMS = "journal:///FILE, sqlite:///FILE.db or postgresql://USER@HOST/DATABASE"


class Storage(NamedTuple):
    """An open storage. One driver of all machines at a time holds `exclusive(what)`, `driving()` for a whole run."""

    shown: str  # its address without a password
    optuna: "BaseStorage"
    exclusive: Callable[[str], AbstractContextManager[None]]
    driving: Callable[[], AbstractContextManager[None]]


def open_storage(url: str | None, workspace: Path, reading: bool = False) -> Storage:
    """The storage at `url`, made if it is new; without one, the workspace's journal. Raises ResourceError.

    `reading`: for who only looks; a journal or sqlite file that is not there is then an empty storage, and is not made.
    """
    _quiet()
    url = url or f"{JOURNAL_SCHEME}{workspace.resolve() / STUDIES / JOURNAL}"
    if url.startswith(JOURNAL_SCHEME) and url != JOURNAL_SCHEME:
        return _journal(url, Path(url.removeprefix(JOURNAL_SCHEME)).absolute(), reading)
    if url.startswith(SQLITE_SCHEME) and url != SQLITE_SCHEME:
        return _sqlite(url, Path(url.removeprefix(SQLITE_SCHEME)).absolute(), reading)
    if is_postgres(url):
        return _postgres(url)
    raise ResourceError(f"--storage: {shown(url)!r} is no storage of studies; use {FORMS}")


def remember(workspace: Path, study: str, url: str) -> None:
    """Note in the workspace in which storage a study is, for commands that are given its name alone.

    An address with a password is not noted. A workspace that cannot be written is no fault: the address can be given.
    """
    if shown(url) != url:
        return
    for scheme in (JOURNAL_SCHEME, SQLITE_SCHEME):
        if url.startswith(scheme):
            url = f"{scheme}{Path(url.removeprefix(scheme)).absolute()}"
    path = workspace.resolve() / STUDIES / ELSEWHERE
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.with_name(f"{ELSEWHERE}.lock")):
            known = read_json(path) or {}
            if known.get(study) != url:
                write_json(path, {**known, study: url})


def elsewhere(workspace: Path, name: str) -> list[str]:
    """Storages that were noted for a study of that name, with or without its profile, each once."""
    known = read_json(workspace.resolve() / STUDIES / ELSEWHERE) or {}
    found = [url for study, url in known.items() if name in (study, study.rpartition("/")[0])]
    return list(dict.fromkeys(str(url) for url in found))


@contextmanager
def faults(address: str) -> Iterator[None]:
    """Faults of the storage, of whichever of its libraries, as a ResourceError of one line."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as error:  # of the driver
        raise ResourceError(f"--storage: {address}: {error}; {EXTRA}") from error
    except (StorageInternalError, SQLAlchemyError, OSError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:  # the innermost says what happened, e.g. that the connection was refused
            cause = cause.__cause__
        reason = " ".join(str(cause).split()).partition(" [SQL: ")[0][:200]
        raise ResourceError(f"--storage: {address}: {reason}; the same command goes on once it answers") from error


@contextmanager
def of_this_version(address: str) -> Iterator[None]:
    """While a storage is opened: one that another version of Optuna has written, as a ResourceError."""
    from alembic.util import CommandError

    try:
        yield
    except (RuntimeError, CommandError, AssertionError, KeyError, ValueError, TypeError) as error:
        import optuna

        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise ResourceError(
            f"--storage: {address}: is not of Optuna {optuna.__version__} ({why}); give another --storage, or bring a "
            "copy of it up to date with `optuna storage upgrade`"
        ) from error


def _nothing(url: str) -> Storage:
    from optuna.storages import InMemoryStorage

    return Storage(url, InMemoryStorage(), lambda what: _free(), _free)


def _journal(url: str, path: Path, reading: bool) -> Storage:
    from optuna.storages import JournalStorage

    if reading and not path.exists():
        return _nothing(url)
    with faults(url), of_this_version(url):
        from studies.journal import Journal

        if not reading:
            path.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(Journal(path, reading))
    return Storage(url, storage, lambda what: locked(path.with_name(f"{path.name}.{what}")), _free)


def _sqlite(url: str, path: Path, reading: bool) -> Storage:
    from optuna.storages import RDBStorage
    from sqlalchemy import NullPool

    if set("%?") & set(str(path)):
        raise ResourceError(f"--storage: {url}: a sqlite address cannot hold % or ?; use another folder")

    if reading and not path.exists():
        return _nothing(url)

    def exclusive(what: str) -> AbstractContextManager[None]:
        return locked(path.with_name(f"{path.name}.{what}"))

    with faults(url), of_this_version(url):
        path.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(TRIALS):  # the tables of a fresh file: by one process
            options = {"connect_args": {"timeout": BUSY_SECONDS}, "poolclass": NullPool}
            storage = RDBStorage(f"{SQLITE_SCHEME}{path}", engine_kwargs=options)
    return Storage(url, storage, exclusive, lambda: _single(url, path))


@contextmanager
def _single(url: str, path: Path) -> Iterator[None]:
    with Lock(path.with_name(f"{path.name}.driver")) as lock:
        if not lock.acquired:
            raise ResourceError(
                f"--storage: {url}: another `rasa study run` has it, and sqlite serves one; give that one more --jobs, "
                f"or use {JOURNAL_SCHEME}FILE or postgresql://USER@HOST/DATABASE"
            )
        yield


def _postgres(url: str) -> Storage:
    from optuna.storages import RDBStorage
    from sqlalchemy import NullPool

    address = shown(url)
    # A trial takes minutes, so each look has a connection of its own: none is left over by a server that was restarted.
    options: dict[str, Any] = {"connect_args": {"connect_timeout": CONNECT_SECONDS}, "poolclass": NullPool}

    @contextmanager
    def exclusive(what: str) -> Iterator[None]:
        with ExitStack() as stack:
            with faults(address):
                stack.enter_context(advisory_lock(url, f"studies {what}"))
            yield

    with faults(address), of_this_version(address), exclusive(TRIALS):  # the tables of a fresh database: by one process
        storage = RDBStorage(with_driver(url), engine_kwargs=options)
    return Storage(address, storage, exclusive, _free)


@contextmanager
def _free() -> Iterator[None]:
    yield


def _quiet() -> None:
    """Optuna and its libraries say on stderr what comes as an exception, or is shown, too."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.CRITICAL)
