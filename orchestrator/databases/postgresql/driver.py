"""Our own way to a PostgreSQL server: by psycopg, or by psycopg2, whichever is installed.

Without SQLAlchemy's first connect, which asks a server a dozen things that nobody here needs.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any, Final

from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from orchestrator.databases.postgresql.watchdog import WATCHDOG
from orchestrator.databases.url import redact
from orchestrator.errors import ConfigurationError

OLDEST: Final = 140000
"""The server that has `idle_session_timeout` and `client_connection_check_interval`."""

_GIVEN: Final = {
    "connect_timeout": "10",
    # Where the database has no encoding (SQL_ASCII), psycopg would give bytes.
    "client_encoding": "UTF8",
    # A server, or a way to it, that has vanished is found out within ten seconds.
    "keepalives": "1",
    "keepalives_idle": "5",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""What the URL does not say otherwise."""
_OF_ASYNCPG: Final = frozenset(
    {
        "async_fallback",
        "async_creator_fn",
        "command_timeout",
        "max_cacheable_statement_size",
        "max_cached_statement_lifetime",
        "prepared_statement_cache_size",
        "prepared_statement_name_func",
        "statement_cache_size",
    }
)
"""Parameters of a URL that only asyncpg, or SQLAlchemy's dialect of it, takes."""
_NAMES: Final = {"ssl": "sslmode", "timeout": "connect_timeout"}
"""What asyncpg calls what libpq calls otherwise."""
_SSL: Final = {"true": "require", "false": "disable", "1": "require", "0": "disable"}


@cache
def driver() -> str:
    """The name of our driver. Raises `ConfigurationError` where none is installed."""
    for name in ("psycopg", "psycopg2"):
        if importlib.util.find_spec(name) is not None:
            return name
    raise ConfigurationError(
        "For PostgreSQL the orchestrator needs psycopg, as its extra `postgresql` brings it: "
        "`pip install 'psycopg[binary]'`. Your application may use another driver all the same. "
        "Nothing was changed.",
        setting="database_url",
    )


def own_url(url: URL) -> URL:
    """The same database by our driver, with the parameters as libpq has them."""
    query: dict[str, Any] = {}
    for name, value in url.query.items():
        if name in _OF_ASYNCPG:
            continue
        if name == "ssl" and isinstance(value, str):
            query["sslmode"] = _SSL.get(value.lower(), value)
        else:
            query[_NAMES.get(name, name)] = value
    return url.set(drivername=f"postgresql+{driver()}", query=query)


def connect(url: URL, **parameters: str) -> Any:
    """A connection of the driver's, in autocommit. Raises the driver's errors.

    Raises `ConfigurationError` for a server that is too old.
    """
    dialect = _dialect(driver())
    try:
        arguments, named = dialect.create_connect_args(own_url(url))
    except (ArgumentError, ValueError, TypeError) as error:
        raise _unusable(url, error) from error
    given = {**_GIVEN, **named, **parameters}
    if driver() == "psycopg":
        # A statement that was prepared would keep its snapshot, and a pooler would not know it.
        ours = {"autocommit": True, "prepare_threshold": None}
        cursor = _timely(dialect.dbapi.Cursor)
        made = _opened(dialect.dbapi, url, arguments, {**given, **ours, "cursor_factory": cursor})
        version = made.info.server_version
    else:
        cursor = _timely(dialect.dbapi.extensions.cursor)
        made = _opened(dialect.dbapi, url, arguments, {**given, "cursor_factory": cursor})
        made.autocommit = True
        version = made.server_version
    if version < OLDEST:
        made.close()
        raise ConfigurationError(
            f"The server of {redact(url)} speaks as PostgreSQL {version // 10000} does, and the "
            f"orchestrator needs {OLDEST // 10000} or newer. Nothing was changed.",
            setting="database_url",
        )
    return made


def _opened(module: Any, url: URL, arguments: Any, named: dict[str, Any]) -> Any:
    try:
        return module.connect(*arguments, **named)
    except (TypeError, AttributeError, ValueError) as error:
        raise _unusable(url, error) from error


def _unusable(url: URL, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"The database URL {redact(url)} has a parameter that the driver cannot take: "
        f"{type(error).__name__}. Nothing was changed.",
        setting="database_url",
    )


def engine(url: URL, **parameters: str) -> Engine:
    """An engine whose connections are such, and each used once."""
    pool = NullPool(lambda: connect(url, **parameters))
    return Engine(pool, _dialect(driver()), own_url(url))


@cache
def _dialect(name: str) -> Any:
    kind: Any = URL.create(f"postgresql+{name}").get_dialect()
    return kind(dbapi=kind.import_dbapi())


@cache
def _timely(cursor: Any) -> Any:
    """A driver's class of cursors, whose server has to answer in time."""

    class Timely(cursor):  # type: ignore[misc] # it is either driver's
        def execute(self, *statement: Any, **options: Any) -> Any:
            with WATCHDOG.watching(self.connection):
                return super().execute(*statement, **options)

    return Timely


def ask(connection: Any, statement: str, *values: Any) -> Any:
    """The first row that a statement gives on a connection of the driver's."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement, values or None)
        return cursor.fetchone()
    finally:
        cursor.close()


def tell(connection: Any, statement: str) -> None:
    """Send a statement that gives no rows."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
    finally:
        cursor.close()


def server_pid(connection: Connection) -> int:
    """The server's process of a connection, whatever its driver."""
    found: int = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    return found
