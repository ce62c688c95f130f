"""Signs of life while a revision runs: how long, at what, and what is in its way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.databases.base import Database
from orchestrator.errors import OrchestratorError
from orchestrator.events import Event, RevisionRunning

if TYPE_CHECKING:
    from orchestrator.revisions.transactions.base import Transaction

_EVERY_SECONDS: Final = 10.0
_TICK_SECONDS: Final = 0.25


@dataclass(frozen=True, slots=True)
class At:
    """What a run is at, and since when by the monotonic clock."""

    task: str
    revision: str
    since: float


class Heartbeat:
    """A thread beside the pass, which looks at what that is at; it changes nothing.

    `at` tells the revision that runs, if one does. A server is asked on a connection of its own,
    which is made when there is something to ask.
    """

    def __init__(
        self,
        database: Database,
        *,
        emit: Callable[[Event], object],
        at: Callable[[], At | None],
        every_seconds: float = _EVERY_SECONDS,
    ) -> None:
        self._database = database
        self._emit = emit
        self._at = at
        self._every_seconds = every_seconds

    @contextmanager
    def attending(self, transaction: Transaction) -> Iterator[None]:
        """Look at the work of this transaction until the end of the block."""
        stopped = threading.Event()
        thread = threading.Thread(
            target=self._watch,
            args=(transaction, stopped),
            name="orchestrator-heartbeat",
            daemon=True,
        )
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(_EVERY_SECONDS)

    def _watch(self, transaction: Transaction, stopped: threading.Event) -> None:
        session = transaction.session
        told = time.monotonic()
        tick = min(_TICK_SECONDS, self._every_seconds / 4, (transaction.limit_seconds or 1) / 4)
        with ExitStack() as stack:
            connection: Connection | None = None

            def own() -> Connection:
                nonlocal connection
                if connection is None:
                    connection = stack.enter_context(self._database.connect())
                return connection

            while not stopped.wait(tick):
                at, now = self._at(), time.monotonic()
                running = transaction.running
                if (
                    session is not None
                    and running is not None
                    and transaction.is_limited
                    and now - running.since >= transaction.limit_seconds / 2
                ):
                    with suppress(SQLAlchemyError, OrchestratorError):
                        found = self._database.blockers(own(), session)
                        if transaction.running is running:
                            transaction.blockers = found or transaction.blockers
                if at is None or now - max(told, at.since) < self._every_seconds:
                    continue
                told = now
                progress = shown = None
                if running is not None:
                    shown = self._database.blanked(running.statement)
                if session is not None and running is not None:
                    with suppress(SQLAlchemyError, OrchestratorError):
                        progress = self._database.progress(own(), session)
                self._emit(
                    RevisionRunning(
                        task=at.task,
                        revision=at.revision,
                        elapsed_seconds=now - at.since,
                        statement=shown,
                        phase=progress.phase if progress is not None else None,
                        percent=progress.percent if progress is not None else None,
                    )
                )
