"""Leaves a mark of the revision in hand, on a connection of our own."""

from __future__ import annotations

from contextlib import ExitStack, suppress

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.databases import marks
from orchestrator.databases.base import Database
from orchestrator.databases.quoting import told
from orchestrator.errors import DatabaseUnavailable, OrchestratorError
from orchestrator.results import Mark


class Marker:
    """Writes marks of one pass. `schema` and `version_table` say of which project's.

    Its connection may be lost while a statement takes long, and is made anew. What cannot be
    written stops no revision: why stands in `trouble`.
    """

    def __init__(self, database: Database) -> None:
        self.schema: str | None = None
        self.version_table = ""
        self.trouble: str | None = None
        self._database = database
        self._stack = ExitStack()
        self._connection: Connection | None = None

    def leave(self, mark: Mark) -> bool:
        """Leave this one; whether it is there."""
        for _ in range(2):
            try:
                marks.write(self._connected(), self.schema, self.version_table, mark)
            except (SQLAlchemyError, OrchestratorError) as error:
                cause = getattr(error, "orig", None) or error.__cause__ or error
                self.trouble = told(cause, self._database.secrets)
                self.close()
            else:
                self.trouble = None
                return True
        return False

    def advance(self, statement: int) -> None:
        """Say that one more statement was begun, if that can be said."""
        for _ in range(2):
            try:
                marks.advance(self._connected(), self.schema, self.version_table, statement)
            except (SQLAlchemyError, OrchestratorError):
                self.close()
            else:
                return

    def erase(self) -> None:
        """Take it away, if that can be done: what it tells of has ended, or was never begun."""
        for _ in range(2):
            try:
                marks.erase(self._connected(), self.schema, self.version_table)
            except (SQLAlchemyError, OrchestratorError):
                self.close()
            else:
                return

    def close(self) -> None:
        """Leave the connection, which may have gone."""
        stack, self._stack, self._connection = self._stack, ExitStack(), None
        with suppress(SQLAlchemyError, DatabaseUnavailable):
            stack.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._stack.enter_context(self._database.connect())
        return self._connection
