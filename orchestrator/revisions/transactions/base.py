"""The seam between transactions: what surrounds the steps of a pass, whatever the database."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience
from orchestrator.results import Blocker, Mark


class TransactionError(Exception):
    """What a migration did does not go with the transaction it ran in; says it in words."""


class RolledBack(TransactionError):
    """A migration rolled back the transaction that it ran in, with other revisions' work in it."""

    def __init__(self) -> None:
        super().__init__("the migration rolled its transaction back")


class Aborted(TransactionError):
    """A revision went on as if it had not been stopped."""

    def __init__(self) -> None:
        super().__init__("the run was stopped in the middle of the revision")


class WayOut(BaseException):
    """Leaves a pass, through Alembic and `env.py`, and is no error: rolls back all of it."""


class Fenced(WayOut):
    """Somebody is at work in the database who has lost the lock: nothing may be done yet."""


class Blocked(WayOut):
    """A statement did not get the lock that it needs in time; all of it may be tried again."""

    def __init__(self, statement: str, blockers: tuple[Blocker, ...]) -> None:
        self.statement = statement
        self.blockers = blockers
        self.revision: str | None = None


@dataclass(frozen=True, slots=True)
class Running:
    """A statement that was sent, and when by the monotonic clock."""

    statement: str
    since: float


EndedBy = Literal["commit", "rollback"]


class Transaction:
    """The transaction of one pass, on `env.py`'s own connection.

    This one is whatever `env.py` and Alembic make of it. A database that needs more has a class
    of this in a file of its own, and a row in `TRANSACTIONS`.

    `patience` is how another one's work is waited for; `limit_seconds` how long a statement waits
    that keeps others out while it does (0: as long as it takes). `committed` says whether some of
    the work may have been committed, by Alembic or by a revision; it is sure when the pass has
    ended.
    """

    transactional_ddl: ClassVar[bool | None] = None
    """What Alembic is told where `env.py` does not say it; None leaves it to Alembic."""
    commits_itself: ClassVar[bool] = False
    """Whether the work is committed here, also where `env.py` begins no transaction."""

    def __init__(
        self,
        connection: Connection,
        *,
        database: Database,
        patience: Patience,
        limit_seconds: float = 0.0,
    ) -> None:
        self.committed = False
        self.divided = False
        """Whether the step in hand has, or may have, committed a part of its work."""
        self.aborted = False
        """Whether the run was stopped in its middle, so that no step may end well."""
        self.limit_seconds = limit_seconds
        self.running: Running | None = None
        """What is executed at this moment."""
        self.session = database.session(connection)
        """The number by which a server knows the connection."""
        self.at: Mark | None = None
        """What would be left if the step in hand were interrupted."""
        self.schema: str | None = None
        """Where the version table is, and with it a mark."""
        self.version_table = ""
        """Its name, by which the marks of several projects are told apart."""
        self.remarks: list[str] = []
        """What somebody should know of the step in hand."""
        self.marked = False
        """Whether a mark was left, of this step or of one before it."""
        self.versions_statement: str | None = None
        """What reads the version rows, once there is a table of them."""
        self.blockers: tuple[Blocker, ...] = ()
        """Who was seen to be in its way."""
        self.connection = connection
        self._database = database
        self._patience = patience
        self._listeners: list[tuple[str, Callable[..., Any]]] = []
        self._listen("commit", self._on_commit)
        self._listen("before_cursor_execute", self._on_execute)
        self._listen("after_cursor_execute", self._on_executed)

    def begin(self) -> None:
        """Begin, before anything is read that a decision rests on.

        Raises `DatabaseUnavailable` where another one's work does not end in time.
        """

    def end(self) -> None:
        """Commit what `env.py` would not, and leave the connection as it was found.

        Raises `DatabaseUnavailable` where another one's work keeps the commit out.
        """
        self._stop_listening()

    def abandon(self) -> None:
        """Roll back what a pass left open, where `env.py` did not close its connection.

        Called at the end of every pass, also of one that came to its `end`.
        """
        self._stop_listening()

    def before_step(self) -> None:
        """Called before each revision or stamp; and after one that ended its transaction."""

    def after_step(self) -> EndedBy | None:
        """Called after each; returns by what it ended the transaction that it ran in, if it did."""
        return None

    @property
    def rolled_back(self) -> bool:
        """Whether the step in hand took its transaction back, and nothing of the pass is kept."""
        return False

    def check(self, revision: str | None = None) -> None:
        """Raise `TaskFailed` where what was done must not be committed.

        Called before a commit: with the revision where each has a transaction of its own.
        """

    def account(self) -> str | None:
        """How far the step in hand has come, where it may be kept; a sentence."""
        return None

    def cancel(self) -> bool:
        """End what is executed at this moment, from another thread; whether that was done."""
        session, running = self.session, self.running
        return session is not None and running is not None and self._database.cancel(session)

    @property
    def is_limited(self) -> bool:
        """Whether the statement in hand gives up after `limit_seconds`."""
        return False

    def blocked(self, error: BaseException) -> Blocked | None:
        """The way out for an error of a statement that was kept out, if all may be tried again."""
        del error
        return None

    def advice(self, error: BaseException) -> str | None:
        """What to do about an error of a revision, of transaction or database."""
        if self.aborted:
            return "The next start runs that revision again from its beginning."
        return self._database.advice(error)

    def _listen(self, name: str, listener: Callable[..., Any]) -> None:
        self._listeners.append((name, listener))
        event.listen(self.connection, name, listener)

    def _stop_listening(self) -> None:
        while self._listeners:
            name, listener = self._listeners.pop()
            event.remove(self.connection, name, listener)

    def _on_commit(self, _: Connection) -> None:
        self.committed = True

    def _on_execute(self, _: Connection, __: Any, statement: str, *___: Any) -> None:
        self.blockers = ()
        self.running = Running(statement, time.monotonic())

    def _on_executed(self, *_: Any) -> None:
        self.running = None
