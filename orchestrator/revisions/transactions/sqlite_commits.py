"""Whether anything was committed to a SQLite file, by whomever: asked of SQLite itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from orchestrator.databases.base import Database
from orchestrator.errors import DatabaseUnavailable


class Commits:
    """Watches one database for commits, on a connection of its own, from `watch` to `stop`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = ExitStack()
        self._version: Callable[[], int | None] = lambda: None
        self._first: int | None = None
        self._mark: int | None = None

    def watch(self) -> None:
        """Begin, with a mark. Raises `DatabaseUnavailable` where the file cannot be opened."""
        self._version = self._watch.enter_context(self._database.watched())
        self._first = self._mark = self._version()

    def mark(self) -> None:
        """Remember the file as it is now."""
        self._mark = self._version()

    def stop(self) -> None:
        """Let the file alone; from now on nothing can be told."""
        self._version = lambda: None
        self._watch.close()

    def since_mark(self) -> bool | None:
        """Whether there was a commit since the last mark; None where it cannot be told."""
        return self._since(self._mark)

    def since_watched(self) -> bool | None:
        """Whether there was a commit at all; None where it cannot be told."""
        return self._since(self._first)

    def _since(self, then: int | None) -> bool | None:
        try:
            # Who plays back the journal that is left at a full disk takes that for a change.
            with self._database.connect() as another:
                self._database.look(another)
        except DatabaseUnavailable:
            return None
        now = self._version()
        return None if then is None or now is None else now != then
