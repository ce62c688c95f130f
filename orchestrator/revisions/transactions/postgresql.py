"""The fence: exclusion that lives on `env.py`'s own connection, and dies with its work.

The lock that elects the leader has a connection of its own, which can be lost in mid-work: then a
second leader starts. Whoever works holds this one, too. In a transaction it is the transaction's;
over a commit, until the next begin, it is the session's, so that there is no gap between two
revisions, nor in an autocommit block.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.blanks import blanked
from orchestrator.databases.patience import Patience
from orchestrator.databases.postgresql.errors import sqlstate
from orchestrator.databases.postgresql.holder import FENCE, NAMESPACE
from orchestrator.databases.postgresql.pooler import pooling_of, told_pid
from orchestrator.errors import by_setting
from orchestrator.revisions.transactions.base import (
    Blocked,
    Fenced,
    Transaction,
    TransactionError,
)
from orchestrator.revisions.transactions.marker import MarkerInside
from orchestrator.revisions.transactions.postgresql_ddl import (
    DEADLOCK,
    LOCK_NOT_AVAILABLE,
    DdlLimit,
    ends_transaction,
    is_ddl,
)

_KEY: Final = f"{NAMESPACE}, {FENCE}"
_MARK: Final = "orchestrator.fence"
_CHECKS: Final = "client_connection_check_interval"
"""By which a server ends what it does for a client that has gone (PostgreSQL 14, on Linux)."""
_TAKE: Final = (
    f"SELECT pg_try_advisory_xact_lock({_KEY}), set_config('{_MARK}', 'transaction', true), "
    f"current_setting('{_CHECKS}')"
)
_END_WITH_CLIENT: Final = (
    f"set_config('{_CHECKS}', CASE %s WHEN '0' THEN '1s' ELSE current_setting('{_CHECKS}') END, %s)"
)
_IN_TRANSACTION: Final = (
    f"SELECT current_setting('{_MARK}', true) = 'transaction', {_END_WITH_CLIENT}"
)
_IS_MARKED: Final = f"SELECT current_setting('{_MARK}', true) = 'transaction'"
_FREES_ALL: Final = re.compile(r"\bDISCARD\s+ALL\b|pg_advisory_unlock_all", re.IGNORECASE)
_ROLLS_BACK: Final = re.compile(r"\s*(?:ROLLBACK|ABORT)\b", re.IGNORECASE)
_LEAVES: Final = re.compile(r"\b(?:CONCURRENTLY|CALL|DO|VACUUM|CLUSTER|REINDEX)\b", re.IGNORECASE)
"""What may leave something behind where it fails outside of a transaction."""
_AS_FOUND: Final = f"SELECT set_config('{_CHECKS}', %s, %s)"
_TAKE_SESSION: Final = f"SELECT pg_try_advisory_lock({_KEY}), {_END_WITH_CLIENT}"
_LEAVE_SESSION: Final = f"SELECT pg_advisory_unlock({_KEY})"


class NotFenced(TransactionError):
    """What is done outside of a transaction cannot be guarded behind such a pooler."""

    def __init__(self) -> None:
        super().__init__(
            "behind a pooler that gives each transaction another session, nothing can be done "
            "outside of one (in an autocommit_block(), or on an engine in AUTOCOMMIT): no lock "
            "would keep others out"
        )


class PostgreSQLTransaction(Transaction):
    """Transactions as `env.py` and Alembic make them, with the fence around all of them.

    It is asked for on the driver's own cursor: SQLAlchemy's events would call themselves. Settings
    of ours are a transaction's; in an autocommit block they are the session's until its end.

    Behind a pooler that gives each transaction another session there is no fence between two
    transactions: whether somebody else has worked meanwhile is told by the version rows.
    """

    looks = re.compile(
        r"(?:\s|;|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
        r"(?:SELECT|SHOW|EXPLAIN|SET|RESET|VALUES|TABLE|FETCH|DISCARD|SAVEPOINT|RELEASE|BEGIN|START"
        r"|COMMIT|END|ABORT|ROLLBACK)\b",
        re.IGNORECASE | re.DOTALL,
    )
    """A function that is called in a SELECT may change something, unseen."""

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
        self._limit = DdlLimit(limit_seconds, self._ask)
        self._of_session = False
        self._in_transaction = True
        self._checked = ""
        self._pooled = False
        self._asked = 0
        self._rows: Any = None
        self._kept_out: Blocked | None = None
        self._kept_before = False
        self._driver: Any = connection.connection.dbapi_connection
        self._pool = connection.engine.pool
        self._left: Callable[..., None] | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the statement in hand gives up after `limit_seconds`."""
        return self._limit.is_on

    def begin(self) -> None:
        """Take the fence. Raises `Fenced` where somebody else is still at work."""
        self._listen("begin", self._on_begin)
        event.listen(self.connection.engine, "handle_error", self._on_error)
        event.listen(self._pool, "checkin", self._on_checkin)
        self._left = self._on_checkin
        self._pooled = self._is_pooled()
        self._enter()

    def end(self) -> None:
        """Leave the fence to the transaction that is open, whoever commits it."""
        self._limit.end()
        super().end()
        self._leave_session()

    def abandon(self) -> None:
        """Nothing of ours stays on the connection, which may be a pool's again by now."""
        super().abandon()
        if self._left is not None:
            event.remove(self.connection.engine, "handle_error", self._on_error)
            event.remove(self._pool, "checkin", self._left)
            self._left = None
        if not (self.connection.closed or self.connection.in_transaction()):
            self._on_checkin(self._driver, None)

    def before_step(self) -> None:
        """From here on a commit divides a revision."""
        super().before_step()
        self.division.divided = self.division.divided and self._in_transaction
        self._kept_out = None

    def after_step(self) -> None:
        """What comes now is Alembic's: the version row, and perhaps a commit.

        Raises `Blocked` for a statement that was kept out, where the revision kept that to itself.
        """
        super().after_step()
        if self._kept_out is not None:
            raise self._kept_out

    @property
    def _is_within(self) -> bool:
        """Whether what is done now is committed with the version row, or by itself."""
        return not self._in_transaction or self.connection.in_transaction()

    def blocked(self, error: BaseException) -> Blocked | None:
        """A lock that was not to be had in time, or a deadlock, where nothing is kept of the step.

        Not after an autocommit block, or a commit of the revision's own: what was done in it would
        be done again.
        """
        code = sqlstate(error)
        limited = code == LOCK_NOT_AVAILABLE and self._limit.is_on
        if self.division.divided or not self.limit_seconds or not (limited or code == DEADLOCK):
            return None
        statement = str(getattr(error, "statement", None) or "")
        return Blocked(blanked(statement), self.blockers)

    def advice(self, error: BaseException) -> str | None:
        """What to do about a lock that was not to be had, where it is not tried again."""
        if sqlstate(error) in (LOCK_NOT_AVAILABLE, DEADLOCK):
            by = f" In the way: {'; '.join(map(str, self.blockers))}." if self.blockers else ""
            then = self.division.ways_out or "Start again when they have ended."
            return f"Others hold the table.{by} {then}"
        if isinstance(error, NotFenced):
            return f"Name a way around the pooler: set {by_setting('direct_url')}."
        return super().advice(error)

    def cancel(self) -> bool:
        """Not behind a pooler, where the session may be somebody else's by now."""
        return not self._pooled and super().cancel()

    def _enter(self) -> None:
        """Have the fence for the transaction; where there is none, for the session."""
        taken, _, found = self._ask(_TAKE)
        if not taken:
            raise Fenced
        self._checked = self._checked or found  # later it may be what was set here
        self._in_transaction, _ = self._ask(_IN_TRANSACTION, self._checked, "true")
        if self._in_transaction:
            self._leave_session()
            self._limit.begin()
            if self._rows is not None and self._rows != self._version_rows():
                raise Fenced  # somebody else has worked between two transactions
        elif self._pooled:
            raise NotFenced
        else:
            self._take_session()

    def _on_begin(self, _: Connection) -> None:
        self._enter()

    def _on_commit(self, connection: Connection) -> None:
        self._kept_before = self.committed
        self.division.at_commit()
        super()._on_commit(connection)
        if not self.division.in_step:
            # Alembic's own, between two, keeps the version row with the work.
            self.division.divided = False
        if self._pooled:
            self._rows = self._version_rows()
        else:
            self._take_session()

    def _on_execute(self, connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        division = self.division
        if not self._in_transaction and (division.in_step or is_ddl(statement)):
            self.committed = True  # by itself, when it has ended
            if division.in_step and not division.only_looks(statement):
                division.divide()
        if division.in_step and self._in_transaction:
            ends = ends_transaction(statement)
            if ends and self._pooled:
                raise NotFenced
            if ends and not _ROLLS_BACK.match(statement):
                division.wrote = division.wrote or not division.only_looks(statement)
                division.at_commit()
            self._limit.before(statement)
        super()._on_execute(connection, cursor, statement, *more)

    def _on_executed(self, connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        super()._on_executed(connection, cursor, statement, *more)
        if _FREES_ALL.search(statement):
            self._of_session = False
            if not self._in_transaction:
                self._take_session()
        if self.division.in_step and self._in_transaction and ends_transaction(statement):
            self._notice_end()

    @property
    def _by_itself(self) -> bool:
        """In an autocommit block, and on an engine in AUTOCOMMIT."""
        return not self._in_transaction

    def _make_marker(self, database: Database) -> MarkerInside:
        return MarkerInside(
            database,
            self.connection,
            send=self._send,
            ask=self._ask,
            atomic=lambda: self._in_transaction,
        )

    def _unmark(self, refused: BaseException) -> None:
        """Nothing is done where the first statement was refused that commits by itself.

        But for those that leave something behind, and one whose connection was lost.
        """
        told = self._database.explain(refused)
        lost = told is not None and told.unreachable
        statement = self.running.statement if self.running is not None else ""
        if not (self.division.done or lost or _LEAVES.search(statement)):
            self.division.undivided()

    def _notice_end(self) -> None:
        """Find out whether a statement has ended the transaction, and guard what comes next."""
        (still,) = self._ask(_IS_MARKED)
        if still:
            return
        self.committed = True
        self._limit.begin()
        self._take_session()

    def _on_error(self, context: Any) -> None:
        """A revision may keep an error to itself, and go on without what was kept out."""
        if context.connection is not self.connection:
            return
        refused = context.original_exception
        refuses = self._database.explain(refused) is None
        if refuses and (context.statement is None or ends_transaction(context.statement)):
            # A commit that the server did not make.
            self.division.not_committed()
        if refuses and context.statement is None:
            self.committed = self._kept_before
        elif self.division.in_step and not self._in_transaction:
            self._unmark(refused)
        elif self.division.in_step:
            self._kept_out = self.blocked(
                context.sqlalchemy_exception or context.original_exception
            )

    def _take_session(self) -> None:
        if self._of_session:
            return
        taken, _ = self._ask(_TAKE_SESSION, self._checked, "false")
        if not taken:
            raise Fenced
        self._of_session = True

    def _leave_session(self) -> None:
        if self._of_session:
            self._of_session = False
            self._ask(_LEAVE_SESSION)
            self._ask(_AS_FOUND, self._checked, "false")

    def _on_checkin(self, dbapi_connection: Any, _: Any) -> None:
        """The connection goes back to its pool, and whoever gets it next must find it as it was.

        It has been rolled back, so that it takes statements; what was set in what was rolled back
        is set again.
        """
        if not self.committed and not self._of_session:
            return  # then nothing was ever set but for a transaction
        if dbapi_connection is not self._driver:
            return
        try:
            if self._of_session:
                self._execute(dbapi_connection, _LEAVE_SESSION)
            self._execute(dbapi_connection, _AS_FOUND, self._checked, "false")
            dbapi_connection.commit()
        except Exception:  # noqa: BLE001, S110 - a driver's: it is lost, and the fence with it
            pass
        self._of_session = False

    def _is_pooled(self) -> bool:
        """Whether the next transaction may have another session; asked only where it looks so."""
        driver = self.connection.connection.driver_connection
        pid = self.session or 0
        if told_pid(driver) in (pid, None):
            return False
        try:
            return pooling_of(self.connection.engine.url) == "transaction"
        except Exception:  # noqa: BLE001 - a driver's: what cannot be told is taken for the worse
            return True

    def _version_rows(self) -> Any:
        """What stands in the version table, in no order; None where there is none yet."""
        if self.versions_statement is None:
            return None
        return self._ask(self.versions_statement, rows=True)

    def _ask(self, statement: str, *values: Any, rows: bool = False) -> Any:
        try:
            return self._execute(self.connection.connection, statement, *values, rows=rows)
        except Exception as error:
            told = self._database.explain(error)
            if told is not None and told.unreachable:
                # As SQLAlchemy does where it sees the error: its pool would reset what is lost.
                self.connection.invalidate(error)
            raise

    def _send(self, statement: str) -> None:
        self._execute(self.connection.connection, statement, rows=None)

    def _execute(
        self, connection: Any, statement: str, *values: Any, rows: bool | None = False
    ) -> Any:
        """By values in the text: drivers differ in how they write a parameter, and these are ours.

        Behind a pooler each is another text: psycopg prepares one from the sixth time on, and the
        next session does not know it.
        """
        self._asked += 1
        mark = f"/* {self._asked} */ " if self._pooled else ""
        cursor = connection.cursor()
        try:
            text = statement % tuple(f"'{value}'" for value in values) if values else statement
            cursor.execute(mark + text)
            if rows is None:
                return None
            return sorted(cursor.fetchall()) if rows else cursor.fetchone()
        finally:
            cursor.close()
