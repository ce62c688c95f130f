"""The leader's record, kept fresh for those who wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import anyio

from orchestrator.events import (
    DdlBlocked,
    Event,
    RevisionApplied,
    RevisionRunning,
    RevisionStarted,
    TaskStarted,
)
from orchestrator.host.record import Record, RecordFile
from orchestrator.results import ErrorReport, Holder

_INTERVAL_SECONDS: Final = 0.1
_LONGEST_MESSAGE: Final = 100_000


class Publication:
    """Writes the record of a run that leads.

    At once when it begins and when it ends; in between at most ten times a second, as long as
    `keep_fresh` runs. It is a sink of the run's events. A record that cannot be written is
    told to `warn`, once, and stops nothing.
    """

    def __init__(
        self,
        file: RecordFile,
        holder: Holder,
        *,
        target: str,
        settings: str | None,
        warn: Callable[[str], None],
    ) -> None:
        self._file = file
        self._warn: Callable[[str], None] | None = warn
        self._ended = anyio.Event()
        self._record = Record(holder=holder, target=target, settings=settings)
        self._write()

    @property
    def holder(self) -> Holder:
        """The run, and what it is at."""
        return self._record.holder

    def __call__(self, event: Event) -> None:
        """Take note of where the work is."""
        if isinstance(event, TaskStarted):
            self._record = self._record.at(
                task=event.task, revision=None, blocked_by=self._record.holder.blocked_by
            )
        elif isinstance(event, RevisionStarted):
            # Until it has run, it may be kept out again.
            self._record = self._record.at(
                task=event.task,
                revision=event.revision,
                blocked_by=self._record.holder.blocked_by,
            )
        elif isinstance(event, RevisionApplied):
            self._record = self._record.at(task=event.task, revision=event.revision)
        elif isinstance(event, RevisionRunning):
            self._record = self._record.at(
                task=event.task, revision=event.revision, statement=event.statement
            )
        elif isinstance(event, DdlBlocked):
            by = "; ".join(map(str, event.blockers)) or "somebody"
            self._record = self._record.at(
                task=event.task,
                revision=event.revision,
                statement=event.statement,
                blocked_by=by,
            )

    def scripts_found(self, fingerprint: str) -> None:
        """Take note of which scripts the leader works with.

        The first counts: `env.py` may say that they lie elsewhere, and would to others, too.
        """
        if self._record.fingerprint is None:
            self._record = replace(self._record, fingerprint=fingerprint)

    async def keep_fresh(self) -> None:
        """Write what has changed, until the end."""
        while not self._ended.is_set():
            with anyio.move_on_after(_INTERVAL_SECONDS):
                await self._ended.wait()
            if not self._ended.is_set():
                self._write()

    def end(
        self, outcome: str, error: ErrorReport | None = None, *, scripts_failed: bool = False
    ) -> None:
        """Publish how the run ended: `ready`, `failed` or `cancelled`."""
        if error is not None and len(error.message) > _LONGEST_MESSAGE:
            # A statement with its values can be longer than what is read of a record.
            error = replace(error, message=error.message[:_LONGEST_MESSAGE] + " …")
        self._record = replace(
            self._record, outcome=outcome, error=error, scripts_failed=scripts_failed
        )
        self._write()
        self._ended.set()

    def _write(self) -> None:
        try:
            self._file.write(self._record)
        except OSError as error:
            if self._warn is not None:
                self._warn(f"the record of this run could not be written: {error}")
                self._warn = None
