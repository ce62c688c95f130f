"""One run's way to the target among all that try: probe, hold the locks, probe again, lead."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from orchestrator.databases.patience import AT_ONCE, still
from orchestrator.databases.secrets import redacted
from orchestrator.decision.job import Command, Job
from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    LockTimeout,
    OrchestratorError,
)
from orchestrator.events import LockAcquired, LockReleased, StateObserved
from orchestrator.host.peers import Peers, Waiter
from orchestrator.results import AppliedRevision, Ended, Holder
from orchestrator.run.broadcast import Broadcast
from orchestrator.run.resources import Resources
from orchestrator.run.threads import Cancellation, in_thread
from orchestrator.run.warm_start import probe_known

if TYPE_CHECKING:
    from orchestrator.host.publication import Publication
    from orchestrator.locks.base import Lock
    from orchestrator.run.leader import Leader


class Contender:
    """Brings one job to its end: by doing it, or by waiting until somebody else has.

    `objection` says why nothing may be changed, if so; `warn` is told what stops nothing, and
    the revision that it is about. `waited_seconds` is how long was waited
    for all locks together.
    """

    def __init__(
        self,
        resources: Resources,
        job: Job,
        broadcast: Broadcast,
        *,
        peers: Peers,
        limiter: CapacityLimiter,
        warn: Callable[..., None],
        objection: Callable[[], ConfigurationError | None],
    ) -> None:
        self.waited_seconds = 0.0
        self._resources = resources
        self._settings = resources.settings
        self._job = job
        self._broadcast = broadcast
        self._emit = broadcast.emit
        self._peers = peers
        self._limiter = limiter
        self._warn = warn
        self._objection = objection
        self._leader: Leader | None = None
        self._publication: Publication | None = None
        self._ended: Ended | None = None

    async def reach_target(self, background: TaskGroup) -> Ended:
        """Go the way to its end. Raises an `OrchestratorError`."""
        ready = await self._probe(under_lock=False)
        if ready is not None:
            return ready
        waiter = Waiter(
            self._peers,
            self._job,
            adopts_failures=self._settings.on_peer_failure == "fail",
            settings=self._resources.settings_digest,
            probe=self._glance,
            fingerprint=self._fingerprint,
            see=self._see,
        )
        objection = self._objection()
        if objection is not None and not objection.denied:
            raise objection
        try:
            async with AsyncExitStack() as held:
                under_lock = True
                try:
                    adopted = await self._hold_all(held, waiter, background, objection)
                except ConfigurationError as error:
                    if objection is None and not error.denied:
                        raise
                    # Who may not even lock looks all the same; `env.py` then runs beside that
                    # of a leader.
                    adopted, objection, under_lock = None, objection or error, False
                if adopted is not None:
                    return adopted
                if objection is None:
                    return await self._lead()
                # Only who has work to do needs to write.
                ready = await self._look(under_lock=under_lock)
                if ready is None:
                    raise objection
                return ready
        except LockTimeout as timeout:
            if timeout.lock == "fence":
                raise
            raise self._peers.named(timeout, self.waited_seconds, waiter.holder) from None

    def abort(self) -> bool:
        """End the statement that a revision is at; whether that was done."""
        return self._leader is not None and self._leader.abort()

    def unfinished(self, applied: tuple[AppliedRevision, ...]) -> Ended:
        """What is known of a run that did not come to its end."""
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

    async def _hold_all(
        self,
        held: AsyncExitStack,
        waiter: Waiter,
        background: TaskGroup,
        objection: ConfigurationError | None,
    ) -> Ended | None:
        """Hold every lock until the end of the stack; or the end of a run that needs none.

        Whoever has the first is the contender of its host, and tells so to those who wait here.
        """
        for lock in self._resources.locks(self._holder, self._warn):
            if not await held.enter_async_context(self._holding(lock, waiter)):
                self._ended = waiter.adopted()
                return self._ended
            # A leader may have ended since the last look, or since this run began.
            if await waiter.look():
                self._ended = waiter.adopted()
                return self._ended
            if self._publication is None and objection is None:
                held.enter_context(self._published(background))
        return None

    def _holder(self) -> Holder:
        """This run, as it is shown to those who wait for it."""
        if self._publication is not None:
            return self._publication.holder
        return self._resources.holder(self._broadcast.run_id, self._job.command)

    async def _see(self, lock: Lock) -> Holder | None:
        return await in_thread(lambda _: lock.seen_holder(), self._limiter)

    @asynccontextmanager
    async def _holding(self, lock: Lock, waiter: Waiter) -> AsyncIterator[bool]:
        """Hold a lock in the block; False where it is not needed any more, and is not held."""
        from orchestrator.locks.waiting import hold  # a warm start does not come this far

        before = self.waited_seconds
        held_since: float | None = None

        async def between_tries(waited_seconds: float) -> bool:
            self.waited_seconds = before + waited_seconds
            return await waiter.between_tries(lock, self.waited_seconds)

        try:
            async with hold(
                lock,
                timeout_seconds=max(0.0, self._settings.lock_timeout_seconds - before),
                between_tries=between_tries,
                limiter=self._limiter,
            ) as waited:
                if waited is not None and lock.excludes:
                    held_since = time.monotonic()
                    waited_here = self.waited_seconds - before
                    self._emit(LockAcquired(lock=lock.name, waited_seconds=waited_here))
                yield waited is not None
        except LockTimeout as timeout:
            if timeout.lock != lock.name or lock.trouble is None:
                raise
            raise self._untried(lock.trouble) from None
        finally:
            if held_since is not None:
                held = time.monotonic() - held_since
                self._emit(LockReleased(lock=lock.name, held_seconds=held))

    def _untried(self, trouble: str) -> DatabaseUnavailable:
        shown = self._resources.database.shown_url
        unavailable = DatabaseUnavailable(
            f"The lock of the database {shown} could not be tried, as {trouble}.",
            url=shown,
            unreachable=True,
            reason=trouble,
        )
        return still(unavailable, self.waited_seconds, "lock_timeout_seconds")

    @contextmanager
    def _published(self, background: TaskGroup) -> Iterator[None]:
        """Tell those who wait on this host who this is, what it is at, and how it ended."""
        from orchestrator.host.publication import Publication  # a warm start tells nobody

        publication = self._publication = Publication(
            self._resources.record(),
            self._resources.holder(self._broadcast.run_id, self._job.command),
            target=redacted(self._job.target),
            settings=self._resources.settings_digest,
            warn=self._warn,
        )
        self._broadcast.add(publication)
        background.start_soon(publication.keep_fresh)
        outcome, error, scripts_failed = "cancelled", None, False
        try:
            yield
            if self._ended is not None and not self._ended.cancelled:
                outcome = "ready"
        except OrchestratorError as failure:
            outcome, error = "failed", self._resources.without_secrets(failure).report()
            scripts_failed = failure.scripts_failed
            raise
        finally:
            publication.end(outcome, error, scripts_failed=scripts_failed)

    async def _lead(self) -> Ended:
        from orchestrator.run.leader import Leader  # a warm start does not come this far

        if self._publication is None:
            raise RuntimeError("nobody leads in secret")
        timeout = self._settings.lock_timeout_seconds
        leader = self._leader = Leader(
            self._resources,
            self._job,
            emit=self._emit,
            warn=self._warn,
            scripts_found=self._publication.scripts_found,
            lock_seconds=max(0.0, timeout - self.waited_seconds),
            process=str(self._publication.holder),
        )
        self._ended = await self._probe(under_lock=True)
        if self._ended is None:
            self._ended = await in_thread(leader.lead, self._limiter)
        return self._ended

    async def _probe(self, *, under_lock: bool) -> Ended | None:
        """The end of the run, if the remembered target is reached.

        A single command looks more closely, always.
        """
        if self._job.command is not Command.RUN:
            return None

        def ask(cancellation: Cancellation) -> Ended | None:
            patience = self._resources.patience(cancellation.interrupt, self._emit, busy=under_lock)
            return probe_known(self._resources, patience)

        try:
            ready = await in_thread(ask, self._limiter)
        except DatabaseUnavailable as error:
            # A leader with much to write can keep all others out until its commit, and a server
            # that has no connection left can take no more who ask. Both are waited for at the
            # lock, by one process a host.
            if under_lock or not error.busy:
                raise
            return None
        return self._told(ready, under_lock=under_lock)

    async def _glance(self) -> Ended | None:
        """The same in the middle of a wait, which has a deadline of its own."""
        try:
            ready = await in_thread(lambda _: probe_known(self._resources, AT_ONCE), self._limiter)
        except DatabaseUnavailable as error:
            if not error.is_worth_waiting:
                raise
            return None
        return self._told(ready, under_lock=False)

    async def _look(self, *, under_lock: bool) -> Ended | None:
        """The end of the run, if there is nothing to do: found the long way."""
        if self._job.command is not Command.RUN:
            return None
        from orchestrator.run.watch import Watch  # hardly any run comes this way

        watch = Watch(self._resources, self._job.policy, emit=self._emit)
        return self._told(await in_thread(watch.ready, self._limiter), under_lock=under_lock)

    def _told(self, ready: Ended | None, *, under_lock: bool) -> Ended | None:
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

    async def _fingerprint(self) -> str:
        return await in_thread(lambda _: self._resources.fingerprint(), self._limiter)
