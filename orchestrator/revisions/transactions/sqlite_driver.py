"""Python's driver for SQLite, below SQLAlchemy: taken over for a pass, and given back."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What a connection was like before it was taken over. `autocommit`: Python 3.12 has it."""

    autocommit: Any
    isolation_level: Any
    busy_timeout: int
    foreign_keys: int


class Driver:
    """The driver's connection of one of SQLAlchemy's, whatever the driver: aiosqlite, too.

    It is taken from its pool for good: an application's own pool must never hand out the altered
    connection, and makes it anew at the next checkout. (One that is detached lacks its
    `driver_connection` in SQLAlchemy 2.0 and 2.1, which revisions use.)
    """

    def __init__(self, connection: Connection) -> None:
        self._proxy = connection.connection
        self._proxy.invalidate(soft=True)
        self._driver: Any = self._proxy.driver_connection
        self._dbapi: Any = self._proxy.dbapi_connection
        self._found: _Found | None = None
        self._found_open = self.in_transaction

    @property
    def in_transaction(self) -> bool:
        """Whether it is in a transaction."""
        return bool(self._driver.in_transaction)

    def execute(self, statement: str) -> list[Any]:
        """Execute a statement of ours; SQLAlchemy and its listeners do not see it."""
        cursor = self._proxy.cursor()
        try:
            cursor.execute(statement)
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def take(self) -> None:
        """Have the driver begin no transactions. Not in one: that would commit it."""
        if self._found is None:
            self._found = _Found(
                autocommit=getattr(self._driver, "autocommit", None),
                isolation_level=self._dbapi.isolation_level,
                busy_timeout=self.execute("PRAGMA busy_timeout")[0][0],
                foreign_keys=self.execute("PRAGMA foreign_keys")[0][0],
            )
        # Python 3.12 has a newer attribute that would overrule the older one.
        if getattr(self._driver, "autocommit", None) in (True, False):
            self._driver.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined] # since 3.12
        self._dbapi.isolation_level = None

    def give_back(self) -> None:
        """Leave it as it was found, for what `env.py` goes on to do. Not in a transaction.

        One that `env.py` had begun has ended with the work; it finds one again, and may end it.
        """
        if (found := self._found) is not None:
            self.execute(f"PRAGMA busy_timeout = {found.busy_timeout}")
            self.execute(f"PRAGMA foreign_keys = {found.foreign_keys}")
            if found.isolation_level is not None:
                self._dbapi.isolation_level = found.isolation_level
            if found.autocommit in (True, False):
                self._driver.autocommit = found.autocommit
        if self._found_open and not self.in_transaction:
            self.execute("BEGIN")

    def roll_back(self) -> None:
        """Roll back what is open, where the connection is not closed."""
        if isinstance(self._driver, sqlite3.Connection):
            try:
                self._driver.rollback()
            except sqlite3.ProgrammingError:
                pass  # closed, as it should be: that rolled back
