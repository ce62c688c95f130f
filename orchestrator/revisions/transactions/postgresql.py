"""The fence: exclusion that lives on `env.py`'s own connection, and dies with its work.

The lock that elects the leader has a connection of its own, which can be lost in mid-work: then a
second leader starts. Whoever works holds this one, too. In a transaction it is the transaction's;
over a commit, until the next begin, it is the session's, so that there is no gap between two
revisions, nor in an autocommit block.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience
from orchestrator.databases.postgresql_lock import FENCE, NAMESPACE
from orchestrator.revisions.transactions.base import Fenced, Transaction

_KEY: Final = f"{NAMESPACE}, {FENCE}"
_MARK: Final = "orchestrator.fence"
_TAKE: Final = (
    f"SELECT pg_try_advisory_xact_lock({_KEY}), set_config('{_MARK}', 'transaction', true)"
)
_IN_TRANSACTION: Final = f"SELECT current_setting('{_MARK}', true) = 'transaction'"
_TAKE_SESSION: Final = f"SELECT pg_try_advisory_lock({_KEY})"
_LEAVE_SESSION: Final = f"SELECT pg_advisory_unlock({_KEY})"


class PostgreSQLTransaction(Transaction):
    """Transactions as `env.py` and Alembic make them, with the fence around all of them.

    It is asked for on the driver's own cursor: SQLAlchemy's events would call themselves.
    """

    def __init__(self, connection: Connection, *, database: Database, patience: Patience) -> None:
        super().__init__(connection, database=database, patience=patience)
        self._of_session = False
        self._driver: Any = connection.connection.dbapi_connection
        self._pool = connection.engine.pool
        self._left: Callable[..., None] | None = None

    def begin(self) -> None:
        """Take the fence. Raises `Fenced` where somebody else is still at work."""
        self._listen("begin", self._on_begin)
        event.listen(self._pool, "checkin", self._on_checkin)
        self._left = self._on_checkin
        if not self.connection.in_transaction():
            self.connection.begin()
        else:
            self._enter()

    def end(self) -> None:
        """Leave the fence to the transaction that is open, whoever commits it."""
        super().end()
        self._leave_session()

    def abandon(self) -> None:
        """Nothing of ours stays on the connection, which may be a pool's again by now."""
        super().abandon()
        if self._left is not None:
            event.remove(self._pool, "checkin", self._left)
            self._left = None
        if self._of_session and not self.connection.closed:
            self._on_checkin(self._driver, None)

    def _enter(self) -> None:
        """Have the fence for the transaction; where there is none, for the session."""
        taken, _ = self._ask(_TAKE)
        if not taken:
            raise Fenced
        (in_transaction,) = self._ask(_IN_TRANSACTION)
        if in_transaction:
            self._leave_session()
        else:
            self._take_session()

    def _on_begin(self, _: Connection) -> None:
        self._enter()

    def _on_commit(self, connection: Connection) -> None:
        super()._on_commit(connection)
        self._take_session()

    def _take_session(self) -> None:
        if self._of_session:
            return
        (taken,) = self._ask(_TAKE_SESSION)
        if not taken:
            raise Fenced
        self._of_session = True

    def _leave_session(self) -> None:
        if self._of_session:
            self._of_session = False
            self._ask(_LEAVE_SESSION)

    def _on_checkin(self, dbapi_connection: Any, _: Any) -> None:
        """The connection goes back to its pool, and whoever gets it next must not hold the fence.

        It has been rolled back, so that it takes statements.
        """
        if not self._of_session or dbapi_connection is not self._driver:
            return
        self._of_session = False
        try:
            _execute(dbapi_connection, _LEAVE_SESSION)
            dbapi_connection.rollback()
        except Exception:  # noqa: BLE001, S110 - a driver's: it is lost, and the fence with it
            pass

    def _ask(self, statement: str) -> Any:
        return _execute(self.connection.connection, statement)


def _execute(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        return cursor.fetchone()
    finally:
        cursor.close()
