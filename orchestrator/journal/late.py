"""The journal of a run that begins before there is one, and does not make it."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.errors import ConfigurationError
from orchestrator.events import Event
from orchestrator.journal.writer import Journal


class LateJournal:
    """Tries with each event to open the journal; what came before is written then.

    `opens` returns it, or raises `ConfigurationError` as long as there is none.
    """

    def __init__(self, opens: Callable[[], Journal | None]) -> None:
        self._opens = opens
        self._journal: Journal | None = None
        self._unwritten: list[Event] = []

    @property
    def loss(self) -> str | None:
        """Why an event could not be written, once there was a journal."""
        return self._journal.loss if self._journal is not None else None

    @property
    def unrotated(self) -> str | None:
        """Why it could not be kept in bounds, once there was a journal."""
        return self._journal.unrotated if self._journal is not None else None

    def __call__(self, event: Event) -> None:
        """Write one event, now or later."""
        self._unwritten.append(event)
        try:
            self._journal = self._journal or self._opens()
        except ConfigurationError:
            return
        if self._journal is not None:
            for one in self._unwritten:
                self._journal(one)
            self._unwritten.clear()

    def close(self) -> None:
        """Close it, if there is one."""
        if self._journal is not None:
            self._journal.close()
