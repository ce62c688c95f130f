"""The mode `follow`: wait for a database that somebody else migrates, and take no lock."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

import anyio
from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from orchestrator.decision.plan import Policy, decide
from orchestrator.decision.state import Observation
from orchestrator.errors import DatabaseUnavailable, LockTimeout, StateRefused
from orchestrator.host.peers import Peers
from orchestrator.results import AppliedRevision, Ended
from orchestrator.run.inspection import View
from orchestrator.run.resources import Resources
from orchestrator.run.threads import Cancellation, in_thread
from orchestrator.run.warm_start import probe_known
from orchestrator.run.work import observe

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Scripts

_SHORTEST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 2.0


class Follower:
    """Asks again and again whether the database is at its target.

    Every 0.25 s, then ever more seldom up to 2 s, jittered.
    """

    def __init__(
        self, resources: Resources, policy: Policy, peers: Peers, limiter: CapacityLimiter
    ) -> None:
        self.waited_seconds = 0.0
        self._database = resources.database
        self._timeout_seconds = resources.settings.lock_timeout_seconds
        self._watch = Watch(resources, policy)
        self._peers = peers
        self._limiter = limiter

    async def reach_target(self, _: TaskGroup) -> Ended:
        """Wait until the database is at its target. Raises `LockTimeout` at the deadline."""
        began = time.monotonic()
        pause = _SHORTEST_SECONDS
        while True:
            ended = await self._ready()
            if ended is not None:
                return ended
            self.waited_seconds = time.monotonic() - began
            left = self._timeout_seconds - self.waited_seconds
            if left <= 0:
                raise self._timeout()
            self._peers.tell_waiting("database", self.waited_seconds)
            await anyio.sleep(min(left, pause * random.uniform(0.75, 1.25)))
            pause = min(_LONGEST_SECONDS, pause * 1.5)

    def unfinished(self, _: tuple[AppliedRevision, ...]) -> Ended:
        """What is known of a run that did not come to its end: nothing."""
        return Ended(versions=())

    async def _ready(self) -> Ended | None:
        try:
            return await in_thread(self._watch.ready, self._limiter)
        except DatabaseUnavailable as error:
            if not error.busy:
                raise
            return None  # the one that is followed is at work

    def _timeout(self) -> LockTimeout:
        holder = self._peers.holder()
        return LockTimeout(
            f"The database {self._database.shown_url} was not at its target after "
            f"{self.waited_seconds:.1f} s. This process only follows: another one has to migrate. "
            + (f"Seen at work: {holder}." if holder else "None was seen at work."),
            lock=None,
            holder=holder,
            waited_seconds=self.waited_seconds,
        )


class Watch:
    """Whether a run would have nothing to do, however often it is asked.

    Loads the scripts only once. It writes nothing and takes no lock. If `patient`, a database
    that is busy is waited for.
    """

    def __init__(self, resources: Resources, policy: Policy, *, patient: bool = False) -> None:
        self._resources = resources
        self._policy = policy
        self._patient = patient
        self._scripts: Scripts | None = None
        self._view: View | None = None

    def ready(self, cancellation: Cancellation) -> Ended | None:
        """The end of the watch, if the database is at its target; else None."""
        ended = probe_known(self._resources, cancellation.interrupt, patient=self._patient)
        if ended is not None or not self._resources.database.exists():
            return ended
        observation = self._look()
        try:
            plan = decide(observation, self._policy)
        except StateRefused:
            return None  # whoever migrates may see to it
        if plan:
            return None
        return Ended(versions=observation.versions, state_before=observation.state)

    def _look(self) -> Observation:
        if self._scripts is None or self._view is None:
            self._scripts = self._resources.scripts()
            self._view = View(self._resources, self._scripts)
        known, database = self._view.known, self._resources.database
        if known is None:
            return self._view.look()
        table, schema = known.version_table, known.version_table_schema
        with database.connect() as connection:
            rows = database.version_rows(connection, table, schema) or ()
            tables = () if rows else database.tables(connection, table, schema)
        target = self._resources.settings.target
        return observe(self._scripts, target, exists=True, versions=rows, tables=tables)
