"""Addresses of databases, for the tracker and for studies: their driver, without their password, locks in them."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

POSTGRES = ("postgresql", "postgres")
EXTRA = "pip install 'rasa-ablations[postgresql]'"  # what brings the driver
CONNECT_SECONDS = 10
# How a server notices that a machine has vanished, which says no goodbye: it asks after so many seconds of silence, how
# often again, how often in vain; and the milliseconds for which what it has sent may stay without an answer. Systems
# would wait for two hours, and for a quarter of one.
NOTICING = {
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
}


def is_postgres(url: str) -> bool:
    """Whether it names a PostgreSQL, with or without a driver."""
    scheme, found, _ = url.partition("://")
    return bool(found) and scheme.partition("+")[0] in POSTGRES


def with_driver(url: str) -> str:
    """The address with the driver that we ask for, psycopg 3, where it is a PostgreSQL that names none.

    SQLAlchemy's own choice is psycopg2, and it no longer knows the scheme `postgres`.
    """
    scheme, _, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if is_postgres(url) and "+" not in scheme else url


def shown(url: str) -> str:
    """The address as messages and records give it: without a password."""
    before, at, after = url.rpartition("@")
    scheme, slashes, who = before.partition("://")
    user, colon, _ = who.partition(":")
    return f"{scheme}{slashes}{user}{':***' if colon else ''}@{after}" if at else url


@contextmanager
def advisory_lock(url: str, what: str) -> Iterator[None]:
    """Held by one program at a time of all machines that use this PostgreSQL.

    The server lets go of it when the connection, or the process, ends, and in half a minute where a machine vanishes.
    It belongs to a session: a pooler that hands on a connection between transactions breaks it. Raises ImportError
    without a driver, and SQLAlchemyError where the server does not answer; not of what is done while it is held.
    """
    from sqlalchemy import NullPool, create_engine, text

    key = int.from_bytes(hashlib.sha256(f"rasa {what}".encode()).digest()[:8], signed=True)
    options = {"connect_args": {"connect_timeout": CONNECT_SECONDS}, "poolclass": NullPool}
    engine = create_engine(with_driver(url), isolation_level="AUTOCOMMIT", **options)
    connection = engine.connect()
    try:
        for name, value in NOTICING.items():
            connection.execute(text("select set_config(:name, :value, false)"), {"name": name, "value": value})
        connection.execute(text("select pg_advisory_lock(:key)"), {"key": key})
        yield
    finally:
        connection.close()  # ends the session, and with it the lock
