"""The seam between transactions: what surrounds the steps of a pass, whatever the database."""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience
from orchestrator.results import Blocker
from orchestrator.revisions.transactions.division import Division
from orchestrator.revisions.transactions.marker import Marker


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


class Transaction(ABC):
    """The transaction of one pass, on `env.py`'s own connection.

    As far as it is said here, it is whatever `env.py` and Alembic make of it. Each database has a
    class of this in a file of its own, with what it needs more, and a row in `TRANSACTIONS`.

    `patience` is how another one's work is waited for; `limit_seconds` how long a statement waits
    that keeps others out while it does (0: as long as it takes). `committed` says whether some of
    the work may have been committed, by Alembic or by a revision; it is sure when the pass has
    ended.
    """

    transactional_ddl: ClassVar[bool | None] = None
    """What Alembic is told where `env.py` does not say it; None leaves it to Alembic."""
    commits_itself: ClassVar[bool] = False
    """Whether the work is committed here, also where `env.py` begins no transaction."""
    looks: ClassVar[re.Pattern[str]]
    """What is taken to change nothing."""

    def __init__(
        self,
        connection: Connection,
        *,
        database: Database,
        patience: Patience,
        limit_seconds: float = 0.0,
    ) -> None:
        self.committed = False
        self.aborted = False
        """Whether the run was stopped in its middle, so that no step may end well."""
        self.limit_seconds = limit_seconds
        self.running: Running | None = None
        """What is executed at this moment."""
        self.session = database.session(connection)
        """The number by which a server knows the connection."""
        self.versions_statement: str | None = None
        """What reads the version rows, once there is a table of them."""
        self.blockers: tuple[Blocker, ...] = ()
        """Who was seen to be in its way."""
        self.connection = connection
        self.division = Division(database, self._make_marker(database), self.looks)
        """What of the step in hand is committed before the rest of it."""
        self._database = database
        self._patience = patience
        self._listeners: list[tuple[str, Callable[..., Any]]] = []
        self._listen("commit", self._on_commit)
        self._listen("before_cursor_execute", self._on_execute)
        self._listen("after_cursor_execute", self._on_executed)

    def begin(self) -> None:  # noqa: B027 - most have nothing to do
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
        self.division.marker.close()

    def before_step(self) -> None:
        """Called before each revision or stamp: from here on it is counted what is sent."""
        self.division.begin()

    def after_step(self) -> EndedBy | None:
        """Called after each; returns by what it ended the transaction that it ran in, if it did.

        What comes now is Alembic's: the version row, and perhaps a commit.
        """
        self.division.end()
        return None

    def resume(self) -> None:  # noqa: B027 - most have nothing to do
        """Called after a step that ended its transaction: its version row needs another."""

    def settle(self) -> bool:
        """Called when the version row of a step is written; whether to commit it at once.

        What is divided would not be whole either if its version row were taken away with the next
        step. Its mark goes with that commit; where the row is committed already, it says nothing
        any more, and is taken away when the pass has ended.
        """
        if self.division.standing is None:
            return False
        if not self._is_within:
            self.division.standing = None
            return False
        self.division.erase()
        return True

    @property
    def _is_within(self) -> bool:
        """Whether what is done now is committed with the version row, or by itself."""
        return True

    def failed(self, error: BaseException) -> None:  # noqa: B027 - most have nothing to do
        """Called when a step has raised, before anything is asked about that."""

    @property
    def rolled_back(self) -> bool:
        """Whether the step in hand took its transaction back, and nothing of the pass is kept."""
        return False

    def check(self, revision: str | None = None) -> None:  # noqa: B027 - most have nothing to do
        """Raise `TaskFailed` where what was done must not be committed.

        Called before a commit: with the revision where each has a transaction of its own.
        """

    def account(self) -> str | None:
        """How far the step in hand has come, where a part of it is kept; a sentence."""
        return self.division.account(self.running.statement if self.running is not None else None)

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
        known, way_out = self._database.advice(error), self.division.ways_out
        if way_out is not None:
            return f"{known} {way_out}" if known else way_out
        if self.aborted:
            return "The next start runs that revision again from its beginning."
        return known

    @abstractmethod
    def _make_marker(self, database: Database) -> Marker:
        """What leaves the marks of its steps."""

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

    def _on_executed(self, _: Connection, __: Any, statement: str, *___: Any) -> None:
        self.running = None
        self.division.executed(statement, by_itself=self._by_itself)

    @property
    def _by_itself(self) -> bool:
        """Whether each statement commits, so that all that are done are kept."""
        return False
