"""What surrounds the steps of a pass where DDL commits at once: a fence, and an account.

No transaction makes a revision whole here. So it is counted what a revision has sent, and whether
that may be kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.marks import TABLE
from orchestrator.databases.mysql.errors import DEADLOCK, LOCK_WAIT, NO_SYNTAX, number
from orchestrator.databases.mysql.locks import FENCE
from orchestrator.databases.mysql.statements import (
    LOOKS,
    changes_one,
    commits,
    is_read_at_once,
    is_whole,
)
from orchestrator.databases.patience import Patience
from orchestrator.revisions.transactions.base import Blocked, Fenced, Transaction
from orchestrator.revisions.transactions.marker import MarkerBeside

_USUAL: Final = (86400, 31536000)
"""What `lock_wait_timeout` is where nobody has set it, in MariaDB and in MySQL."""


class MySQLTransaction(Transaction):
    """A fence by a lock of the session, from the first question to the end of the connection's use.

    It outlives every commit, and ends with the connection.
    """

    looks = LOOKS

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
        self._autocommit: bool | None = None
        self._committed_before = False
        self._fenced = False
        self._waits: int | None = None
        self._limited = False
        self._listen("rollback", self._on_rollback)
        self._driver: Any = connection.connection.dbapi_connection
        self._pool = connection.engine.pool
        self._left: Callable[..., None] | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the statement in hand gives up after `limit_seconds`."""
        return self._limited

    def begin(self) -> None:
        """Take the fence. Raises `Fenced` where somebody else is still at work."""
        event.listen(self._pool, "checkin", self._on_checkin)
        self._left = self._on_checkin
        taken, waits = self._ask(f"SELECT GET_LOCK({FENCE}, 0), @@lock_wait_timeout")
        if not taken:
            raise Fenced
        self._fenced = True
        if waits in _USUAL:
            self._waits = waits

    def end(self) -> None:
        """Let what comes next wait, of whomever; the fence stays until the connection is left."""
        self._limit(wanted=False)
        super().end()

    def abandon(self) -> None:
        """Nothing of ours stays on the connection, which may be a pool's again by now."""
        super().abandon()
        if self._left is not None:
            event.remove(self._pool, "checkin", self._left)
            self._left = None
        if not self.connection.closed:
            self._on_checkin(self._driver, None)

    def before_step(self) -> None:
        """From here on it is counted what is sent."""
        super().before_step()
        self.division.divided = False
        self._autocommit = None
        self._committed_before = self.committed

    def settle(self) -> bool:
        """The step's tables are there whatever becomes of a transaction, and so must be its row.

        Also where `env.py` would commit it. From here on the rows say that it has ended.
        """
        if self.division.standing is not None:
            self._ask("COMMIT")
            self.division.standing = None
        return False

    def failed(self, error: BaseException) -> None:
        """Find out whether anything may be kept; a statement whose connection is lost may be."""
        told = self._database.explain(error)
        if told is not None and told.unreachable:
            self.division.in_doubt = True
            return
        self.division.in_doubt = self.division.in_doubt and not self._is_unread(error)
        if self._is_undone(error):
            self.division.undivided()
            self.committed = self._committed_before
        else:
            self.division.insist()

    def _is_undone(self, error: BaseException) -> bool:
        """Whether nothing is kept of the step: its first statement was refused, and is whole."""
        refused = self.running.statement if self.running is not None else None
        if refused is None or self.division.kept:
            return refused is None and not self.division.done
        return self._is_unread(error) or (not self.division.done and is_whole(refused))

    def _is_unread(self, error: BaseException) -> bool:
        """Whether the server could not read the statement, and has done nothing of it.

        Then it has not committed either what came before.
        """
        refused = self.running.statement if self.running is not None else ""
        return number(error) == NO_SYNTAX and is_read_at_once(refused)

    def blocked(self, error: BaseException) -> Blocked | None:
        """A lock that was not to be had in time, or a deadlock, where nothing is kept of the step.

        A statement that commits has done so with what came before it, also where it fails itself;
        and one that is made of several may have done some of them.
        """
        statement = str(getattr(error, "statement", None) or "")
        if self.division.done or not is_whole(statement):
            return None
        code = number(error)
        limited = code == LOCK_WAIT and self._limited
        if not self.limit_seconds or not (limited or code == DEADLOCK):
            return None
        return Blocked(self._database.blanked(statement), self.blockers)

    def _on_execute(self, connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        super()._on_execute(connection, cursor, statement, *more)
        divides = self.division.in_doubt = self._commits(statement)
        if divides:
            self.committed = True
        if self.division.in_step:
            self._divide(commits=divides)
            # Others, as OPTIMIZE, give up without an error.
            self._limit(wanted=changes_one(statement))

    def _on_commit(self, connection: Connection) -> None:
        super()._on_commit(connection)
        self._autocommit = None
        if self.division.in_step and self.division.done:  # the revision's own will
            self._divide(commits=True)
            self.division.keep()

    def _on_executed(self, connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        super()._on_executed(connection, cursor, statement, *more)
        self.division.in_doubt = False
        if TABLE in statement:
            self.division.insist()

    def _on_rollback(self, _: Connection) -> None:
        if self.division.in_step and self.division.kept < self.division.done:
            self.division.remarks.append(
                "The revision rolled back its own transaction: rows that it had written since "
                "the last statement that commits are not kept."
            )

    def _commits(self, statement: str) -> bool:
        """Whether a statement commits at its end; where all do, those that only look do not."""
        if commits(statement):
            return True
        if self.division.only_looks(statement) or not self.division.in_step:
            return False
        if self._autocommit is None:
            (found,) = self._ask("SELECT @@autocommit")
            self._autocommit = bool(found)
        return self._autocommit

    def _divide(self, *, commits: bool) -> None:
        """Leave a mark before what divides the revision, and say how far that has come."""
        if commits or self.division.standing is not None:
            self.division.divide()

    @property
    def _by_itself(self) -> bool:
        """What is not, yet, is so with the next that is."""
        return self.division.in_doubt

    def _make_marker(self, database: Database) -> MarkerBeside:
        return MarkerBeside(database)

    def _limit(self, *, wanted: bool) -> None:
        """Limit how long a statement waits for a table; one that somebody has set is left."""
        if self._waits is None or not self.limit_seconds or wanted is self._limited:
            return
        seconds = max(1, round(self.limit_seconds)) if wanted else self._waits
        self._ask(f"SET SESSION lock_wait_timeout = {seconds:d}")
        self._limited = wanted

    def _on_checkin(self, dbapi_connection: Any, _: Any) -> None:
        """The connection goes back to its pool, and whoever gets it next must find it as it was."""
        if dbapi_connection is not self._driver or not self._fenced:
            return
        self._fenced = False
        try:
            self._execute(dbapi_connection, f"SELECT RELEASE_LOCK({FENCE})")
            if self._limited:
                self._execute(dbapi_connection, f"SET SESSION lock_wait_timeout = {self._waits:d}")
            self._limited = False
        except Exception:  # noqa: BLE001, S110 - a driver's: it is lost, and the fence with it
            pass

    def _ask(self, statement: str) -> Any:
        try:
            return self._execute(self.connection.connection, statement)
        except Exception as error:
            told = self._database.explain(error)
            if told is not None and told.unreachable:
                # As SQLAlchemy does where it sees the error: its pool would reset what is lost.
                self.connection.invalidate(error)
            raise

    def _execute(self, connection: Any, statement: str) -> Any:
        cursor = connection.cursor()
        try:
            cursor.execute(statement)
            return cursor.fetchone()
        finally:
            cursor.close()
