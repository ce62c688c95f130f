"""The seam between transactions: what surrounds the steps of a pass, whatever the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience


class TransactionError(Exception):
    """What a migration did does not go with the transaction it ran in; says it in words."""


class RolledBack(TransactionError):
    """A migration rolled back the transaction that it ran in, with other revisions' work in it."""

    def __init__(self) -> None:
        super().__init__("the migration rolled its transaction back")


class WayOut(BaseException):
    """Leaves a pass, through Alembic and `env.py`, and is no error: rolls back all of it."""


class Fenced(WayOut):
    """Somebody is at work in the database who has lost the lock: nothing may be done yet."""


EndedBy = Literal["commit", "rollback"]


class Transaction:
    """The transaction of one pass, on `env.py`'s own connection.

    This one is whatever `env.py` and Alembic make of it. A database that needs more has a class
    of this in a file of its own, and a row in `TRANSACTIONS`.

    `patience` is how another one's work is waited for. `committed` says whether some of the work
    may have been committed, by Alembic or by a revision; it is sure when the pass has ended.
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
    ) -> None:
        self.committed = False
        self.connection = connection
        self._database = database
        self._patience = patience
        self._listeners: list[tuple[str, Callable[..., Any]]] = []
        self._listen("commit", self._on_commit)

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

    def advice(self, error: BaseException) -> str | None:
        """What to do about an error of a revision, of transaction or database."""
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
