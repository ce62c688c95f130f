"""The seam between transactions: what surrounds the steps of a pass, whatever the database."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from sqlalchemy import event
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database


class TransactionError(Exception):
    """What a migration did does not go with the transaction it ran in; says it in words."""


class TransactionEnded(TransactionError):
    """A migration ended the transaction that it ran in; `by` is `commit` or `rollback`."""

    def __init__(self, by: str) -> None:
        super().__init__(f"the migration ended its transaction by a {by}")
        self.by = by


class Transaction:
    """The transaction of one pass, on `env.py`'s own connection.

    This one is whatever `env.py` and Alembic make of it. A database that needs more has a class
    of this in a file of its own, and a row in `TRANSACTIONS`.

    `busy_seconds` is how long another one's work is waited for; `interrupted` raises where that
    waiting should end. `committed` says whether some of the work may have been committed, by
    Alembic or by a revision.
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
        busy_seconds: float,
        interrupted: Callable[[], None],
    ) -> None:
        self.committed = False
        self._database = database
        self._busy_seconds = busy_seconds
        self._interrupted = interrupted
        event.listen(connection, "commit", self._on_commit)

    def begin(self) -> None:
        """Begin, before anything is read that a decision rests on.

        Raises `DatabaseUnavailable` where another one's work does not end in time.
        """

    def commit(self) -> None:
        """Commit what is not committed by `env.py`."""

    def abandon(self) -> None:
        """Roll back what a pass left open, where `env.py` did not close its connection."""

    def before_step(self) -> None:
        """Called before each revision or stamp."""

    def after_step(self) -> None:
        """Called after each; raises `TransactionEnded` where that must not have happened."""

    def check(self, revision: str | None = None) -> None:
        """Raise `TaskFailed` where what was done must not be committed.

        Called before a commit: with the revision where each has a transaction of its own.
        """

    def advice(self, error: BaseException) -> str | None:
        """What to do about an error of a revision that comes of the transaction."""
        del error
        return None

    def _on_commit(self, _: Connection) -> None:
        self.committed = True
