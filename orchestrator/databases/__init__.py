"""The kinds of databases: peers behind one seam, chosen by the name of SQLAlchemy's dialect.

A new kind is a class and one row in this table, and a row in that of the transactions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orchestrator.databases.base import Database
from orchestrator.databases.url import parse, redact, require_driver
from orchestrator.errors import ConfigurationError


def _mysql() -> type[Database]:
    from orchestrator.databases.mysql.database import MySQL

    return MySQL


def _postgresql() -> type[Database]:
    from orchestrator.databases.postgresql.database import PostgreSQL

    return PostgreSQL


def _sqlite() -> type[Database]:
    from orchestrator.databases.sqlite import SQLite

    return SQLite


# Each imported where it is used: a start on one need not load the others, 7 ms each.
DATABASES: Final[dict[str, Callable[[], type[Database]]]] = {
    "mariadb": _mysql,
    "mysql": _mysql,
    "postgresql": _postgresql,
    "sqlite": _sqlite,
}


def kind_of(dialect: str) -> type[Database] | None:
    """The kind by the name of its dialect; None where it is not supported."""
    imported = DATABASES.get(dialect)
    return imported() if imported is not None else None


def database_of(text: str) -> Database:
    """The database that a URL names.

    Raises `ConfigurationError` where the URL cannot be parsed or used, where its driver is not
    installed, and where it is of a kind that is not supported.
    """
    url = parse(text)
    kind = kind_of(url.get_backend_name())
    if kind is None:
        raise ConfigurationError(
            f"The database URL {redact(text)} is for {url.get_backend_name()}. Supported so far: "
            f"{', '.join(DATABASES)}.",
            setting="database_url",
            allowed=tuple(DATABASES),
        )
    database = kind(url)
    require_driver(url)
    return database
