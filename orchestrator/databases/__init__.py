"""The kinds of databases: peers behind one seam, chosen by the name of SQLAlchemy's dialect.

A new kind is one file here and one row in this table, and a row in that of the transactions.
"""

from __future__ import annotations

from typing import Final

from orchestrator.databases.base import Database
from orchestrator.databases.postgresql import PostgreSQL
from orchestrator.databases.sqlite import SQLite
from orchestrator.databases.url import parse, redact, require_driver
from orchestrator.errors import ConfigurationError

DATABASES: Final[dict[str, type[Database]]] = {
    "postgresql": PostgreSQL,
    "sqlite": SQLite,
}


def database_of(text: str) -> Database:
    """The database that a URL names.

    Raises `ConfigurationError` where the URL cannot be parsed or used, where its driver is not
    installed, and where it is of a kind that is not supported.
    """
    url = parse(text)
    kind = DATABASES.get(url.get_backend_name())
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
