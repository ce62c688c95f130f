"""One run, from the probe to the terminal event: section 2 of the design, top to bottom."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from orchestrator.broadcast import Broadcast
from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    LockTimeout,
    OrchestratorError,
)
from orchestrator.events import (
    DatabaseReady,
    LockAcquired,
    LockReleased,
    RunCancelled,
    RunFailed,
    RunStarted,
    StateObserved,
)
from orchestrator.peers import Peers, Waiter
from orchestrator.plan import Command, Job
from orchestrator.resources import Resources
from orchestrator.results import AppliedRevision, ErrorReport, Holder, RunReport
from orchestrator.threads import in_thread, interrupt, is_cancelled
from orchestrator.warm import Ended, probe_known

if TYPE_CHECKING:
    from orchestrator.journal import Journal
    from orchestrator.leading import Leader


class Runner:
    """Runs one job, once. `report` is there when it has ended, however it ended."""

    def __init__(self, resources: Resources, job: Job, broadcast: Broadcast) -> None:
        self.report: RunReport | None = None
        self._resources = resources
        self._settings = resources.settings
        self._job = job
        self._broadcast = broadcast
        self._emit = broadcast.emit
        self._began = time.monotonic()
        self._waited_seconds = 0.0
        self._warnings: list[str] = []
        self._journal: Journal | None = None
        self._leader: Leader | None = None
        self._limiter = anyio.CapacityLimiter(1)  # never queues behind the application's threads

    async def run(self, background: TaskGroup) -> None:
        """Run to the terminal event. Raises the `OrchestratorError` of a run that failed.

        Cancellation ends the run between two revisions; what has run until then is kept.
        """
        unprepared = await self._locate() or self._prepare()
        self._emit(
            RunStarted(
                command=self._job.command,
                mode=self._settings.mode,
                target=self._job.target,
                lock_timeout_seconds=self._settings.lock_timeout_seconds,
            )
        )
        try:
            if unprepared is not None:
                raise unprepared
            ended = await self._reach_target(background)
        except OrchestratorError as error:
            error.args = (self._resources.hide(str(error)),)  # scripts may have told anything
            self._end("failed", self._unfinished(error.applied), error.report())
            raise
        except Exception as error:
            # A fault of ours; whoever waits for the terminal event must get it all the same.
            message = self._resources.hide(str(error))
            report = ErrorReport(type=type(error).__name__, message=message, exit_code=1)
            self._end("failed", self._unfinished(), report)
            raise
        except BaseException:
            self._end("cancelled", self._unfinished())
            raise
        else:
            self._end("cancelled" if ended.cancelled else "ready", ended)
        finally:
            if self._journal is not None:
                self._journal.close()

    async def _locate(self) -> OrchestratorError | None:
        """Ask `env.py` for the URL where none is named; in a thread, where it may run a loop."""
        try:
            if not self._resources.names_database:
                with anyio.CancelScope(shield=True):
                    await in_thread(lambda: self._resources.url, self._limiter)
        except OrchestratorError as error:
            return error
        return None

    def _prepare(self) -> ConfigurationError | None:
        """Make the state directory and open the journal, before the first event is emitted."""
        follows = self._follows
        try:
            if not follows:
                self._resources.prepare()
            self._journal = self._resources.journal()
        except ConfigurationError as error:
            # Who only follows writes nothing but the journal, and can do without it.
            return None if follows and self._settings.journal is None else error
        if self._journal is not None:
            self._broadcast.add(self._journal)
        return None

    def _require_journal(self) -> None:
        """Raise `ConfigurationError` where the journal took not even the beginning of the run."""
        if self._journal is not None and self._journal.loss is not None:
            raise ConfigurationError(
                f"Before anything was changed, {self._journal.loss}. Make room, name another "
                'file with the setting `journal`, or turn it off with "off".',
                setting="journal",
            )

    @property
    def _follows(self) -> bool:
        return self._settings.mode == "follow" and self._job.command is Command.RUN

    async def _reach_target(self, background: TaskGroup) -> Ended:
        peers = Peers(self._resources.record(), emit=self._emit, warn=self._warnings.append)
        if self._follows:
            return await self._follow(peers)
        ready = await self._probe(under_lock=False)
        if ready is not None:
            return ready
        self._require_journal()
        from orchestrator.waiting import hold  # a warm start does not come this far

        lock = self._resources.lock()
        waiter = Waiter(
            peers,
            lock.name,
            self._job,
            adopts_failures=self._settings.on_peer_failure == "fail",
            probe=partial(self._probe, under_lock=False),
            fingerprint=self._fingerprint,
        )
        held_since: float | None = None
        try:
            async with hold(
                lock,
                timeout_seconds=self._settings.lock_timeout_seconds,
                between_tries=waiter.between_tries,
            ) as waited:
                if waited is None:
                    return waiter.adopted()
                held_since = time.monotonic()
                self._emit(LockAcquired(lock=lock.name, waited_seconds=waiter.waited_seconds))
                # A leader may have ended since the last look, or since this run began.
                if await waiter.look():
                    return waiter.adopted()
                return await self._lead(background)
        except LockTimeout as timeout:
            raise _named(timeout, peers.holder()) from None
        finally:
            self._waited_seconds = waiter.waited_seconds
            if held_since is not None:
                held = time.monotonic() - held_since
                self._emit(LockReleased(lock=lock.name, held_seconds=held))

    async def _lead(self, background: TaskGroup) -> Ended:
        # A warm start does not come this far.
        from orchestrator.leading import Leader
        from orchestrator.publication import Publication

        publication = Publication(
            self._resources.record(),
            run_id=self._broadcast.run_id,
            command=self._job.command,
            target=self._job.target,
            release=self._settings.release,
            warn=self._warnings.append,
        )
        self._broadcast.add(publication)
        background.start_soon(publication.keep_fresh)
        leader = self._leader = Leader(
            self._resources,
            self._job,
            emit=self._emit,
            cancelled=is_cancelled,
            scripts_loaded=publication.scripts_loaded,
        )
        outcome, error = "cancelled", None
        try:
            ended = await self._probe(under_lock=True)
            if ended is None:
                ended = await in_thread(leader.lead, self._limiter)
            outcome = "cancelled" if ended.cancelled else "ready"
            return ended
        except OrchestratorError as failure:
            outcome, error = "failed", failure.report()
            raise
        finally:
            publication.end(outcome, error)

    async def _probe(self, *, under_lock: bool) -> Ended | None:
        """The end of the run, if the remembered target is reached.

        A single command looks more closely, always.
        """
        if self._job.command is not Command.RUN:
            return None
        ask = partial(probe_known, self._resources, interrupt, patient=under_lock)
        try:
            ready = await in_thread(ask, self._limiter)
        except DatabaseUnavailable as error:
            # A leader with much to write keeps all others out of a SQLite file until its
            # commit. It is waited for at the lock, as long as that takes.
            if under_lock or not error.busy:
                raise
            return None
        if ready is not None and ready.state_before is not None:
            self._emit(
                StateObserved(
                    state=ready.state_before,
                    versions=ready.versions,
                    target_revisions=ready.versions,
                    under_lock=under_lock,
                )
            )
        return ready

    async def _follow(self, peers: Peers) -> Ended:
        # A run that migrates needs neither.
        from orchestrator.following import Following
        from orchestrator.inspection import Watch

        watch = Watch(self._resources)
        following = Following(
            lambda: in_thread(partial(watch.ready, interrupt), self._limiter),
            peers,
            database=self._resources.shown_url,
            timeout_seconds=self._settings.lock_timeout_seconds,
        )
        try:
            return await following.until_ready()
        finally:
            self._waited_seconds = following.waited_seconds

    async def _fingerprint(self) -> str:
        return await in_thread(lambda: self._resources.scripts().fingerprint, self._limiter)

    def _end(self, outcome: str, ended: Ended, error: ErrorReport | None = None) -> None:
        """Emit the terminal event, and make the report."""
        duration = time.monotonic() - self._began
        if error is not None:
            self._emit(
                RunFailed(
                    error=error.type,
                    message=error.message,
                    exit_code=error.exit_code,
                    applied=ended.applied,
                )
            )
        elif outcome == "cancelled":
            self._emit(RunCancelled(applied=ended.applied))
        else:
            self._emit(
                DatabaseReady(
                    versions=ended.versions,
                    applied=ended.applied,
                    led=ended.led,
                    duration_seconds=duration,
                )
            )
        if self._journal is not None and self._journal.loss is not None:
            self._warnings.append(self._journal.loss)
        self.report = RunReport(
            run_id=self._broadcast.run_id,
            outcome=outcome,
            command=self._job.command,
            led=ended.led,
            state_before=ended.state_before,
            versions=ended.versions,
            applied=ended.applied,
            tasks=ended.tasks,
            waited_seconds=self._waited_seconds,
            duration_seconds=duration,
            error=error,
            warnings=tuple(self._warnings),
        )

    def _unfinished(self, applied: tuple[AppliedRevision, ...] = ()) -> Ended:
        """What is known of a run that did not reach its target."""
        if self._leader is None:
            return Ended(versions=())
        outcome = self._leader.outcome
        return Ended(
            versions=self._leader.found,
            state_before=outcome.before.state if outcome.before else None,
            applied=applied,
            tasks=tuple(outcome.tasks) if applied else (),
            led=bool(outcome.plan),
        )


def _named(timeout: LockTimeout, holder: Holder | None) -> LockTimeout:
    """The timeout with the name of the holder, which the lock itself does not know."""
    by = f"by {holder}" if holder else "by a process that has not told who it is"
    return LockTimeout(
        f"The {timeout.lock} lock was held {by} for all of the {timeout.waited_seconds:.1f} s "
        "that this process waited. Nothing was changed. A longer `lock_timeout_seconds` waits "
        "longer; the lock is free as soon as its holder ends, however it ends.",
        lock=timeout.lock,
        holder=holder,
        waited_seconds=timeout.waited_seconds,
    )
