"""One real transaction on SQLite, for whatever connection `env.py` brings.

Python's driver begins transactions by itself, late, and never for DDL; SQLAlchemy leaves that
as it is (https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable). So a
migration that is killed leaves half of itself behind. Here the driver is told to begin none,
and `BEGIN IMMEDIATE` is sent before anything is read that a decision rests on.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.errors import DatabaseUnavailable, TaskFailed
from orchestrator.revisions.transactions.base import (
    Transaction,
    TransactionEnded,
    TransactionError,
)

_TRY_MILLISECONDS: Final = 50
_LONGEST_MILLISECONDS: Final = 2**31 - 1
"""What SQLite takes as a time, 24 days; more, or for ever, is that."""

_NOT_IN_A_TRANSACTION: Final = ("VACUUM", "PRAGMA", "ATTACH", "DETACH", "BEGIN", "COMMIT", "END")
_JOURNAL_MODE: Final = re.compile(
    r"\s*PRAGMA\s+(?:\w+\.)?journal_mode\s*[=(]\s*['\"]?(\w+)", re.IGNORECASE
)


class NotInTransaction(TransactionError):
    """A statement that SQLite does not obey in a transaction."""

    def __init__(self, statement: str) -> None:
        super().__init__(f"SQLite does not obey {statement.strip()} in a transaction")
        self.statement = statement


class SQLiteTransaction(Transaction):
    """One real transaction. The connection is taken from its pool for good.

    Enforcement of foreign keys is off inside, as batch mode drops and renames tables, which
    would cascade; violations that are new are an error at the end.
    """

    transactional_ddl = True  # SQLite has it; Alembic only assumes that the driver spoils it
    commits_itself = True

    def __init__(
        self,
        connection: Connection,
        *,
        database: Database,
        busy_seconds: float,
        interrupted: Callable[[], None],
    ) -> None:
        super().__init__(
            connection, database=database, busy_seconds=busy_seconds, interrupted=interrupted
        )
        self._violations: Counter[tuple[Any, ...]] | None = None
        self._rolled_back = False
        self._driver: Any = connection.connection.driver_connection
        self._proxy = connection.connection
        # An application's own pool must never hand out the altered connection: it is made anew
        # at the next checkout. One that is detached lacks its `driver_connection` (SQLAlchemy
        # 2.0, 2.1), which revisions use.
        self._proxy.invalidate(soft=True)
        self._autocommit = False
        event.listen(connection, "begin", self._on_begin)
        event.listen(connection, "set_connection_execution_options", self._on_options)
        event.listen(connection, "rollback", self._on_rollback)
        event.listen(connection, "before_cursor_execute", self._on_execute)

    @property
    def is_open(self) -> bool:
        """Whether the driver is in a transaction."""
        return bool(self._driver.in_transaction)

    def begin(self) -> None:
        """Begin. Waits for another writer, then raises `DatabaseUnavailable`."""
        self._take_control()
        if not self.is_open and self._execute("PRAGMA foreign_keys")[0][0]:
            self._execute("PRAGMA foreign_keys = OFF")
            self._violations = self._foreign_key_violations()
        self.ensure()

    def ensure(self) -> None:
        """Begin again if the transaction was ended, as Alembic does between revisions."""
        if self.is_open:
            return
        self._take_control()
        began = time.monotonic()
        self._execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")
        while True:
            try:
                self._execute("BEGIN IMMEDIATE")
                break
            except Exception as error:
                waited = time.monotonic() - began
                told = self._database.explain(error)
                if told is None or not told.busy:
                    raise self._unavailable(f"cannot be written: {error}", waited) from error
                if waited >= self._busy_seconds:
                    raise self._unavailable(
                        f"was busy with another writer for {waited:.1f} s", waited, busy=True
                    ) from error
            # Only while there is somebody to wait for: a revision that was said to begin begins.
            self._interrupted()
        # Readers can be in the way of the commit.
        milliseconds = min(self._busy_seconds * 1000, _LONGEST_MILLISECONDS)
        self._execute(f"PRAGMA busy_timeout = {int(milliseconds)}")

    def before_step(self) -> None:
        """Make sure that a revision runs in a transaction of ours."""
        self.ensure()
        self._rolled_back = False

    def after_step(self) -> None:
        """Raise `TransactionEnded` if the revision did not leave the transaction open."""
        if self._rolled_back:
            raise TransactionEnded("rollback")
        if not self.is_open:
            self.committed = True
            raise TransactionEnded("commit")

    def check(self, revision: str | None = None) -> None:
        """Raise `TaskFailed` for rows that lost their parent in this transaction."""
        if self._violations is None:
            return
        new = self._foreign_key_violations() - self._violations
        if new:
            told = ", ".join(f"{table} -> {parent}: {n}" for (table, parent), n in new.items())
            what = f"Revision {revision}" if revision else "The migration"
            raise TaskFailed(
                f"{what} left rows whose foreign key has no parent ({told}). The transaction is "
                "rolled back. Enforcement is off inside a migration: delete or move such rows "
                "in the migration itself.",
                task="upgrade",
                revision=revision,
            )

    def commit(self) -> None:
        """Commit, whether or not Alembic or `env.py` would.

        Raises `DatabaseUnavailable` where readers are in the way for too long.
        """
        if not self.is_open:
            return
        began = time.monotonic()
        try:
            self._execute("COMMIT")
        except Exception as error:
            told = self._database.explain(error)
            if told is None or not told.busy:
                raise
            waited = time.monotonic() - began
            raise self._unavailable(
                f"could not be committed to: another connection was reading it for all of the "
                f"{waited:.1f} s that were waited (`connect_timeout_seconds`)",
                waited,
                busy=True,
            ) from error

    def abandon(self) -> None:
        """Roll back what a pass left open, where `env.py` did not close its connection."""
        driver = self._driver
        if isinstance(driver, sqlite3.Connection):
            try:
                driver.rollback()
            except sqlite3.ProgrammingError:
                pass  # closed, as it should be: that rolled back

    def advice(self, error: BaseException) -> str | None:
        """What to do about a statement or a commit that a transaction does not take."""
        statement = str(getattr(error, "statement", "") or "").lstrip().upper()
        committed = isinstance(error, TransactionEnded) and error.by == "commit"
        if not committed and not statement.startswith(_NOT_IN_A_TRANSACTION):
            return None
        return (
            "Revisions run in one transaction here. One that must run outside of it needs "
            '`transaction = "off"`, which is Alembic\'s own way and leaves half of a revision '
            "behind when it is killed."
        )

    def _take_control(self) -> None:
        # Python 3.12 has a newer attribute that would overrule the older one.
        if getattr(self._driver, "autocommit", None) in (True, False):
            self._driver.autocommit = sqlite3.LEGACY_TRANSACTION_CONTROL  # type: ignore[attr-defined] # since 3.12
        dbapi_connection: Any = self._proxy.dbapi_connection
        dbapi_connection.isolation_level = None

    def _execute(self, statement: str) -> list[Any]:
        cursor = self._proxy.cursor()
        try:
            cursor.execute(statement)
            return list(cursor.fetchall())
        finally:
            cursor.close()

    def _foreign_key_violations(self) -> Counter[tuple[Any, ...]]:
        # Counted by table and parent: a table that is copied may number its rows anew.
        rows = self._execute("PRAGMA foreign_key_check")
        return Counter((table, parent) for table, _, parent, _ in rows)

    def _on_options(self, _: Connection, options: dict[str, Any]) -> None:
        # The driver's isolation level is ours: an autocommit block only has to begin none.
        level = options.pop("isolation_level", None)
        if level is not None:
            self._autocommit = str(level).upper() == "AUTOCOMMIT"

    def _on_begin(self, _: Connection) -> None:
        # An autocommit block of Alembic's begins a SQLAlchemy transaction that must be none.
        if not self._autocommit:
            self.ensure()

    def _on_rollback(self, _: Connection) -> None:
        self._rolled_back = True

    def _on_execute(self, _: Connection, cursor: Any, statement: str, *__: Any) -> None:
        # SQLite keeps the mode in a transaction, and does not say so.
        asked = _JOURNAL_MODE.match(statement)
        if asked and self.is_open and self._execute("PRAGMA journal_mode") != [(asked[1].lower(),)]:
            raise NotInTransaction(statement)

    def _unavailable(self, what: str, waited: float, *, busy: bool = False) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"The database {self._database.shown_url} {what}. Nothing was changed.",
            url=self._database.shown_url,
            waited_seconds=waited,
            busy=busy,
        )
