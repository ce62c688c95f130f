"""A place for each kind of database: its URL, absent or empty, and a connection to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url

from orchestrator.databases import database_of
from orchestrator.databases.base import Database
from tests.servers.mariadb import shared_mariadb
from tests.servers.postgresql import shared_postgresql

WHOLE = ("sqlite", "postgresql 15", "postgresql 16", "postgresql 18")
"""SQLite, and PostgreSQL in versions of the wheel and, where it is there, of the machine.

Those in which a transaction takes back a change of tables, too.
"""

KINDS = (*WHOLE, "mariadb")


@dataclass(frozen=True)
class Place:
    """One empty database, as an `env.py` would reach it.

    `spellings` are other URLs of the same database, `other` that of another one, `unusable`
    one that cannot be connected to. `attach` makes the schema `other` visible to a connection.
    """

    kind: str
    url: str
    spellings: tuple[str, ...]
    other: str
    unusable: str
    attach: Callable[[Connection], object]
    default_schema: str

    @property
    def database(self) -> Database:
        return database_of(self.url)

    def connect(self, url: str | None = None) -> AbstractContextManager[Connection]:
        """A connection of somebody else's, such as `env.py`'s."""
        return connected(url or self.url)


@contextmanager
def connected(url: str) -> Iterator[Connection]:
    """A connection of an engine of its own."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.connect() as connection:
        yield connection


@contextmanager
def sqlite_place(path: Path) -> Iterator[Place]:
    """A SQLite file of no tables."""
    path.mkdir()
    (path / "app.db").touch()
    (path / "link.db").symlink_to("app.db")
    (path / "text").write_text("no database, but a text of more than a page " * 100)
    yield Place(
        kind="sqlite",
        url=f"sqlite:///{path}/app.db",
        spellings=(
            f"sqlite+aiosqlite:///{path}/app.db",
            f"sqlite:///{path}/x/../link.db",
            f"sqlite:///file:{path}/app.db?uri=true",
            f"sqlite:///{path}/link.db?timeout=3",
        ),
        other=f"sqlite:///{path}/other.db",
        unusable=f"sqlite:///{path}/text",
        attach=lambda connection: connection.exec_driver_sql(
            f"ATTACH '{path / 'attached.db'}' AS other"
        ),
        default_schema="main",
    )


@contextmanager
def postgresql_place(version: int) -> Iterator[Place]:
    """A PostgreSQL database of no tables."""
    server = shared_postgresql(version)

    def url(name: str) -> URL:
        return URL.create(
            "postgresql+psycopg",
            "postgres",
            "s3cret-enough",
            "127.0.0.1",
            server.port,
            name,
        )

    def text(url: URL) -> str:
        return url.render_as_string(hide_password=False)

    with server.database() as name, server.database() as other:
        yield Place(
            kind="postgresql",
            url=text(url(name)),
            spellings=(
                text(url(name).set(drivername="postgresql+psycopg_async")),
                text(url(name).set(drivername="postgresql+asyncpg")),
                text(url(name).set(drivername="postgresql+psycopg2")),
                text(url(name).set(drivername="postgresql")),
                text(url(name).update_query_dict({"connect_timeout": "9"})),
            ),
            other=text(url(other)),
            unusable=text(url("nowhere")),
            attach=lambda connection: connection.exec_driver_sql(
                "CREATE SCHEMA IF NOT EXISTS other"
            ),
            default_schema="public",
        )


@contextmanager
def mariadb_place() -> Iterator[Place]:
    """A MariaDB database of no tables."""
    server = shared_mariadb()

    def url(name: str) -> URL:
        return make_url(server.url(name))

    def text(url: URL) -> str:
        return url.render_as_string(hide_password=False)

    with server.database() as name, server.database() as other:
        try:
            yield Place(
                kind="mysql",
                url=text(url(name)),
                spellings=(
                    text(url(name).set(drivername="mysql+asyncmy")),
                    text(url(name).set(drivername="mysql+aiomysql")),
                    text(url(name).set(drivername="mariadb+pymysql")),
                    text(url(name).update_query_dict({"connect_timeout": "9"})),
                ),
                other=text(url(other)),
                unusable=text(url("nowhere")),
                attach=lambda connection: connection.exec_driver_sql(
                    "CREATE DATABASE IF NOT EXISTS other"
                ),
                default_schema=name,
            )
        finally:
            server.execute("DROP DATABASE IF EXISTS other")


def place_of(kind: str, path: Path) -> AbstractContextManager[Place]:
    """An empty database of a kind."""
    if kind == "sqlite":
        return sqlite_place(path)
    if kind == "mariadb":
        return mariadb_place()
    return postgresql_place(int(kind.removeprefix("postgresql ")))


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database of each kind."""
    with place_of(request.param, tmp_path / "place") as place:
        yield place
