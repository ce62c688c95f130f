"""Leaves a mark of the revision in hand: beside the transactions of `env.py`, or in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.databases import marks
from orchestrator.databases.base import Database
from orchestrator.databases.quoting import told
from orchestrator.errors import DatabaseUnavailable, OrchestratorError
from orchestrator.results import Mark

_SAVEPOINT: Final = "orchestrator_mark"


class Marker(ABC):
    """Writes marks of one pass. `schema` and `version_table` say of which project's.

    What cannot be written stops no revision: why stands in `trouble`.
    """

    def __init__(self, database: Database) -> None:
        self.schema: str | None = None
        self.version_table = ""
        self.trouble: str | None = None
        self._database = database

    @abstractmethod
    def leave(self, mark: Mark) -> bool:
        """Leave this one; whether it is there."""

    @abstractmethod
    def advance(self, mark: Mark) -> None:
        """Say how far it has come since it was left, if that can be said."""

    @abstractmethod
    def erase(self) -> None:
        """Take it away, if that can be done: what it tells of has ended, or was never begun."""

    def close(self) -> None:  # noqa: B027 - most have nothing open
        """Leave what was opened for it."""

    def _told(self, error: Exception) -> str:
        cause = getattr(error, "orig", None) or error.__cause__ or error
        return told(cause, self._database.secrets)


class MarkerInside(Marker):
    """Writes them on `env.py`'s own connection, below SQLAlchemy: committed with what it tells of.

    `send` takes a statement, `ask` one that has a row; `atomic` says whether there is a
    transaction, or a savepoint can begin one.
    """

    def __init__(
        self,
        database: Database,
        connection: Connection,
        *,
        send: Callable[[str], object],
        ask: Callable[[str], Any],
        atomic: Callable[[], bool],
    ) -> None:
        super().__init__(database)
        self._own = connection
        self._send = send
        self._ask = ask
        self._atomic = atomic

    def leave(self, mark: Mark) -> bool:
        """Leave this one, and its table, if there is none; whether it is there."""
        dialect = self._own.dialect
        statements: tuple[str, ...] = marks.leaving(dialect, self.schema, self.version_table, mark)
        try:
            (there,) = self._ask(self._database.marked_query(self._own, self.schema))
            if not there:
                statements = (marks.making(dialect, self.schema), *statements)
            self._whole(*statements)
        except Exception as error:  # a driver's
            unavailable = self._database.explain(error)
            if unavailable is not None and unavailable.unreachable:
                raise
            self.trouble = self._told(error)
            return False
        self.trouble = None
        return True

    def advance(self, mark: Mark) -> None:
        """Say so, in the same transaction as what was begun."""
        text = marks.advancing(self._own.dialect, self.schema, self.version_table, mark)
        self._whole(text)

    def erase(self) -> None:
        """Take it away in the transaction in hand."""
        self._whole(marks.erasing(self._own.dialect, self.schema, self.version_table))

    def _whole(self, *statements: str) -> None:
        """All of them, or none: an error must not end the transaction that they come in."""
        if not self._atomic():
            for statement in statements:
                self._send(statement)
            return
        self._send(f"SAVEPOINT {_SAVEPOINT}")
        try:
            for statement in statements:
                self._send(statement)
        except Exception:
            self._send(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            self._send(f"RELEASE SAVEPOINT {_SAVEPOINT}")
            raise
        self._send(f"RELEASE SAVEPOINT {_SAVEPOINT}")


class MarkerBeside(Marker):
    """Writes them on a connection of our own.

    It may be lost while a statement takes long, and is made anew. One that tells of a revision
    which has ended by now says nothing, and the next one takes its place.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._stack = ExitStack()
        self._connection: Connection | None = None
        self._left = False

    def leave(self, mark: Mark) -> bool:
        """Leave this one; whether it is there."""
        for _ in range(2):
            try:
                where = (self._connected(), self.schema, self.version_table)
                if not (self._left and marks.rewrite(*where, mark)):
                    marks.write(*where, mark)
            except (SQLAlchemyError, OrchestratorError) as error:
                self.trouble = self._told(error)
                self.close()
            else:
                self.trouble = None
                self._left = True
                return True
        return False

    def advance(self, mark: Mark) -> None:
        """Say so; a revision may have taken the mark away, which is left anew."""
        self.leave(mark)

    def erase(self) -> None:
        """Take it away, if that can be done: what it tells of has ended, or was never begun."""
        self._left = False
        for _ in range(2):
            try:
                marks.erase(self._connected(), self.schema, self.version_table)
            except (SQLAlchemyError, OrchestratorError):
                self.close()
            else:
                return

    def close(self) -> None:
        """Leave the connection, which may have gone."""
        self._left = False
        stack, self._stack, self._connection = self._stack, ExitStack(), None
        with suppress(SQLAlchemyError, DatabaseUnavailable):
            stack.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._database.connect())
        return self._connection
