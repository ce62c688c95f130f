"""What those who wait make of the process that leads: whom to name, and which outcome counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from orchestrator.databases.secrets import redacted
from orchestrator.decision.job import Command, Job
from orchestrator.errors import LockTimeout, PeerFailed, by_setting
from orchestrator.events import Event, LockWaiting
from orchestrator.host.record import Record, RecordFile
from orchestrator.locks.base import Lock
from orchestrator.locks.cadence import Cadence
from orchestrator.results import Ended, Holder

_LOOK_SECONDS: Final = 0.5


class Peers:
    """One run's view of the record, from before its first try for the lock.

    An outcome that stood in the record before is an earlier start's and never counts: between
    a leader's acquire and its first write, everybody sees the record of the run before it.
    `warn` is told once of a record that cannot be read.
    """

    def __init__(
        self,
        file: RecordFile,
        *,
        emit: Callable[[Event], object],
        warn: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._file = file
        self._emit = emit
        self._warn = warn
        self._warned = False
        self._cadence = Cadence()
        self._told_run: str | None = None
        before = self._read()
        self._settled = {before.holder.run_id} if before and before.outcome else set()

    def holder(self) -> Holder | None:
        """Who runs now, as far as it has told."""
        record = self._read()
        return record.holder if record and record.outcome is None else None

    def tell_waiting(
        self,
        lock: str,
        waited_seconds: float,
        holder: Holder | None = None,
        reason: str | None = None,
    ) -> None:
        """Emit that and for whom this run waits; `reason` says why the lock cannot even be tried.

        At first, for each new holder, and then ever more seldom, at least every 30 s.
        """
        run = holder.run_id if holder else None
        if not self._cadence.is_due(waited_seconds) and run in (None, self._told_run):
            return
        self._told_run = run or self._told_run
        self._cadence.told(waited_seconds)
        self._emit(
            LockWaiting(lock=lock, holder=holder, waited_seconds=waited_seconds, reason=reason)
        )

    def named(
        self, timeout: LockTimeout, waited_seconds: float, holder: Holder | None
    ) -> LockTimeout:
        """The timeout with the name of the holder."""
        by = f"by {holder}" if holder else "by a process that has not told who it is"
        return LockTimeout(
            f"The {timeout.lock} lock was held {by} for all of the {waited_seconds:.1f} s that "
            f"this process waited. Nothing was changed. To wait longer, set "
            f"{by_setting('lock_timeout_seconds')}; the lock is free as soon as its "
            "holder ends, however it ends.",
            lock=timeout.lock,
            holder=holder,
            waited_seconds=waited_seconds,
        )

    def news(self) -> Record | None:
        """The record of a run that has ended since this one began to look; each only once."""
        record = self._read()
        if record is None or record.outcome is None or record.holder.run_id in self._settled:
            return None
        self._settled.add(record.holder.run_id)
        return record

    def _read(self) -> Record | None:
        try:
            return self._file.read()
        except ValueError as error:
            if not self._warned:
                self._warn(f"{error}; it is only information, and the run goes on")
            self._warned = True
            return None


class Waiter:
    """What a run does between its tries for a lock.

    `probe` tells whether the database is at its target, and `see` who holds a lock of a server.
    `settings` is the digest of our own, None
    where they cannot be compared; `fingerprint` tells that of our own scripts, and is asked only
    when somebody else's failure might be ours.
    """

    def __init__(
        self,
        peers: Peers,
        job: Job,
        *,
        adopts_failures: bool,
        settings: str | None,
        probe: Callable[[], Awaitable[Ended | None]],
        fingerprint: Callable[[], Awaitable[str]],
        see: Callable[[Lock], Awaitable[Holder | None]],
    ) -> None:
        self._peers = peers
        self._job = job
        self._adopts_failures = adopts_failures
        self._settings = settings
        self._probe = probe
        self._fingerprint = fingerprint
        self._see = see
        self._ready: Ended | None = None
        self._next_look_seconds = 0.0
        self.holder: Holder | None = None
        """Whom this run waits for, as far as it has told."""

    async def between_tries(self, lock: Lock, waited_seconds: float) -> bool:
        """Look whether this run still has to wait, and tell that it does."""
        if await self.look() or (not lock.quick and await self._ask(lock, waited_seconds)):
            return True
        if lock.quick:
            self.holder = self._peers.holder()
        self._peers.tell_waiting(lock.name, waited_seconds, self.holder, lock.trouble)
        return False

    async def _ask(self, lock: Lock, waited_seconds: float) -> bool:
        """Ask a server now and then who leads; whether somebody has led to our target.

        When another host's leader has ended, all hosts look at once, instead of leading in turn.
        """
        if waited_seconds < self._next_look_seconds:
            return False
        self._next_look_seconds = waited_seconds + _LOOK_SECONDS
        before, now = self.holder, await self._see(lock)
        self.holder = now
        if before is None or (now is not None and now.run_id == before.run_id):
            return False
        if self._job.command is Command.RUN:
            self._ready = await self._probe()
        return self._ready is not None

    async def look(self) -> bool:
        """Whether another run's success is ours, too: the record is a hint, and is probed.

        Raises `PeerFailed` where another run's failure is ours: the same work by the same
        scripts with the same settings, which failed at executing them while this one waited. Any
        other failure (a refused state, say) is cheap to find for oneself. A single command
        adopts nothing.
        """
        record = self._peers.news() if self._job.command is Command.RUN else None
        if record is None:
            return False
        if record.outcome == "ready":
            self._ready = await self._probe()
            return self._ready is not None
        if self._adopts_failures and await self._would_fail_too(record):
            raise _peer_failure(record)
        return False

    def adopted(self) -> Ended:
        """The end that was found by `look`."""
        if self._ready is None:
            raise RuntimeError("nothing was adopted")
        return self._ready

    async def _would_fail_too(self, record: Record) -> bool:
        theirs = (record.holder.command, record.target, record.settings)
        return (
            record.error is not None
            and record.scripts_failed
            and theirs == (self._job.command, redacted(self._job.target), self._settings)
            and None not in (record.settings, record.fingerprint)
            and record.fingerprint == await self._fingerprint()
        )


def _peer_failure(record: Record) -> PeerFailed:
    if record.error is None:
        raise RuntimeError("a run without an error has not failed")
    return PeerFailed(
        f"The process that led, {record.holder}, failed: {record.error.message}\n"
        "This process waited for it, and did not try the same again.",
        leader=record.holder,
        error=record.error,
    )
