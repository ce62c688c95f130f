"""A second kind of database, as small as the seam lets it be: PostgreSQL without a lock.

Only for tests: it shows that a kind is one class and a row in each table.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError, OperationalError

from orchestrator.databases import DATABASES
from orchestrator.databases.base import Database, as_versions
from orchestrator.errors import DatabaseUnavailable
from orchestrator.locks.base import Lock
from orchestrator.results import Holder
from orchestrator.revisions.transactions import TRANSACTIONS
from orchestrator.revisions.transactions.base import Transaction


class PeerDatabase(Database):
    """A PostgreSQL database that somebody else has made."""

    @property
    def identity(self) -> str:
        return f"postgresql:{self.url.host}:{self.url.port}/{self.url.database}"

    @property
    def synchronous_url(self) -> URL:
        return self.url.set(drivername="postgresql+psycopg")

    def exists(self) -> bool:
        return True

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        engine = sa.create_engine(
            self.synchronous_url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                yield connection
        except OperationalError as error:
            raise (self.explain(error) or error) from error

    def look(self, connection: Connection) -> None:
        connection.exec_driver_sql("SELECT 1")

    def version_rows(
        self, connection: Connection, table: str, schema: str | None
    ) -> tuple[str, ...] | None:
        query = sa.select(sa.column("version_num")).select_from(sa.table(table, schema=schema))
        try:
            return as_versions(connection.execute(query).scalars())
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.UndefinedTable):
                return None
            raise

    def tables(
        self, connection: Connection, version_table: str, schema: str | None
    ) -> tuple[str, ...]:
        inspector = sa.inspect(connection)
        found = {*inspector.get_table_names(), *inspector.get_table_names(schema=schema)}
        return tuple(sorted(found - {version_table}))

    def same_as(self, connection: Connection) -> bool:
        return PeerDatabase(connection.engine.url).identity == self.identity

    def explain(self, error: BaseException) -> DatabaseUnavailable | None:
        if not isinstance(error, OperationalError):
            return None
        return DatabaseUnavailable(
            f"The database {self.shown_url} cannot be reached.",
            url=self.shown_url,
        )

    def lock(self, holder: Holder) -> Lock | None:
        del holder
        return None


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows by which the orchestrator knows this kind, for the length of a test."""
    monkeypatch.setitem(DATABASES, "postgresql", PeerDatabase)
    monkeypatch.setitem(TRANSACTIONS, "postgresql", Transaction)
