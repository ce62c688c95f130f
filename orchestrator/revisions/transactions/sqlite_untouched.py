"""SQLite with `transaction = "off"`: whatever Python's driver and `env.py` make of transactions.

That driver begins one before a change of rows, and none before a change of tables
(https://docs.python.org/3/library/sqlite3.html#sqlite3-transaction-control-isolation-level).
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience
from orchestrator.revisions.transactions.base import Transaction
from orchestrator.revisions.transactions.marker import MarkerInside


class UntouchedSQLite(Transaction):
    """No transaction of ours: it is only told, and marked, that a revision is not whole."""

    looks = re.compile(
        r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
        r"(?:SELECT|PRAGMA|EXPLAIN|VALUES|INSERT|UPDATE|DELETE|REPLACE|BEGIN|SAVEPOINT|ROLLBACK)\b",
        re.IGNORECASE | re.DOTALL,
    )
    """And what is whole with its version row: rows, for which the driver begins a transaction."""

    def __init__(
        self,
        connection: Connection,
        *,
        database: Database,
        patience: Patience,
        limit_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            connection, database=database, patience=patience, limit_seconds=limit_seconds
        )
        self.committed = self.division.divided = True  # for all that is known

    def settle(self) -> bool:
        """Its version row is there; what was begun for it, Alembic commits."""
        self.division.erase()
        return False

    def failed(self, error: BaseException) -> None:
        """Nothing is done where the first statement was refused."""
        if not self.division.done and not self._in_transaction:
            self.division.undivided()
            self.division.divided = True

    def _on_execute(self, connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        super()._on_execute(connection, cursor, statement, *more)
        division = self.division
        if division.in_step and not self._in_transaction and not division.only_looks(statement):
            division.divide()

    def _on_commit(self, connection: Connection) -> None:
        super()._on_commit(connection)
        if self.division.in_step and self.division.done:  # the revision's own will
            self.division.divide()
            self.division.keep()

    @property
    def _by_itself(self) -> bool:
        """Where the driver has begun no transaction."""
        return not self._in_transaction

    def _make_marker(self, database: Database) -> MarkerInside:
        return MarkerInside(
            database,
            self.connection,
            send=self._send,
            ask=self._ask,
            atomic=lambda: True,  # a savepoint outside of a transaction begins one
        )

    @property
    def _in_transaction(self) -> bool:
        driver: Any = self.connection.connection.driver_connection
        return bool(driver.in_transaction)

    def _send(self, statement: str) -> None:
        cursor = self.connection.connection.cursor()
        try:
            cursor.execute(statement)
        finally:
            cursor.close()

    def _ask(self, statement: str) -> Any:
        cursor = self.connection.connection.cursor()
        try:
            cursor.execute(statement)
            return cursor.fetchone()
        finally:
            cursor.close()
