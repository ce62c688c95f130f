"""Our own way to a MariaDB or MySQL server: by PyMySQL, or by mysqlclient."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import ssl
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import NullPool

from orchestrator.databases.url import redact
from orchestrator.errors import ConfigurationError

_SECONDS: Final = 15
"""In which a server has to answer a small question of ours."""
_GIVEN: Final = {
    "connect_timeout": 10,
    "read_timeout": _SECONDS,
    "write_timeout": _SECONDS,
    "charset": "utf8mb4",
}
"""What the URL does not say otherwise."""
_NAMES: Final = {"pymysql": "pymysql", "MySQLdb": "mysqldb"}
"""Modules, and what SQLAlchemy calls them."""


@cache
def driver() -> str:
    """The module of our driver. Raises `ConfigurationError` where none is installed."""
    for name in _NAMES:
        if importlib.util.find_spec(name) is not None:
            return name
    raise ConfigurationError(
        "For MariaDB and MySQL the orchestrator needs PyMySQL, as its extra `mysql` brings it: "
        "`pip install pymysql`. Your application may use another driver all the same. Nothing was "
        "changed.",
        setting="database_url",
    )


def own_url(url: URL) -> URL:
    """The same database by our driver, without what only another one takes."""
    known = _parameters(driver())
    query = {
        name: value
        for name, value in url.query.items()
        if name in known or name.startswith("ssl_") or url.get_driver_name() == _NAMES[driver()]
    }
    return url.set(drivername=f"{url.get_backend_name()}+{_NAMES[driver()]}", query=query)


@cache
def _parameters(module: str) -> frozenset[str]:
    if module != "pymysql":
        return frozenset({"charset", "unix_socket", "read_default_file", "read_default_group"})
    opener: Any = importlib.import_module("pymysql.connections").Connection
    return frozenset(inspect.signature(opener).parameters)


def connect(url: URL, **parameters: Any) -> Any:
    """A connection of the driver's, in autocommit. Raises the driver's errors."""
    own = own_url(url)
    try:
        arguments, named = _dialect(own.drivername).create_connect_args(own)
        return _opener(driver())(*arguments, **{**_GIVEN, **named, **parameters})
    except (ArgumentError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise ConfigurationError(
            f"The database URL {redact(url)} has a parameter that the driver cannot take: "
            f"{type(error).__name__}. Nothing was changed.",
            setting="database_url",
        ) from error


@cache
def _opener(module: str) -> Callable[..., Any]:
    if module != "pymysql":
        client: Any = importlib.import_module(module)

        def opened(**parameters: Any) -> Any:
            connection = client.connect(**parameters)
            connection.autocommit(True)
            return connection

        return opened

    opener: Any = importlib.import_module("pymysql.connections").Connection

    class Quick(opener):  # type: ignore[misc] # it has no types
        """Asks for less.

        The certificates of the system are read only where they are to be looked at: 15 ms.
        """

        def _create_ssl_ctx(self, sslp: Any) -> Any:
            return super()._create_ssl_ctx(sslp) if sslp else _unverified()

        def rollback(self) -> None:
            """Nothing: it is in autocommit, and SQLAlchemy would ask the server at each end."""

    return lambda **parameters: Quick(autocommit=True, **parameters)


@cache
def _unverified() -> ssl.SSLContext:
    """As PyMySQL's own, where the URL says nothing: encrypted if the server can do it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def engine(url: URL, **parameters: Any) -> Engine:
    """An engine whose connections are such, and each used once."""
    own = own_url(url)
    return Engine(NullPool(lambda: connect(url, **parameters)), _dialect(own.drivername), own)


@cache
def _dialect(name: str) -> Any:
    kind: Any = URL.create(name).get_dialect()
    return kind(dbapi=kind.import_dbapi())


def ask(connection: Any, statement: str, *values: Any) -> Any:
    """The first row that a statement gives on a connection of the driver's; None if it has none."""
    cursor = connection.cursor()
    try:
        cursor.execute(statement, values or None)
        return cursor.fetchone()
    finally:
        cursor.close()


def server_id(connection: Connection) -> int:
    """The server's number of a connection, whatever its driver."""
    found: int = connection.exec_driver_sql("SELECT connection_id()").scalar_one()
    return found
