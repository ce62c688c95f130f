"""The mode `follow`: wait for a database that somebody else migrates, and take no lock."""

from __future__ import annotations

import random
import time
from typing import Final

import anyio
from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from orchestrator.databases.patience import still
from orchestrator.decision.job import Policy
from orchestrator.decision.state import DatabaseState
from orchestrator.errors import DatabaseUnavailable, LockTimeout, StateRefused, by_setting
from orchestrator.host.peers import Peers
from orchestrator.results import AppliedRevision, Ended, Holder
from orchestrator.run.resources import Resources
from orchestrator.run.threads import Cancellation, in_thread
from orchestrator.run.watch import Watch

_SHORTEST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 2.0
"""How often a server is asked who leads."""


_STAYS: Final = frozenset(
    {DatabaseState.UNVERSIONED, DatabaseState.UNRECOGNISED, DatabaseState.INTERRUPTED}
)


def _stays(refusal: StateRefused) -> bool:
    """Whether nobody ends that state by a run."""
    return refusal.state in _STAYS


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
        self._leader: Holder | None = None
        self._next_look_seconds = 0.0
        self._busy: DatabaseUnavailable | None = None
        """Why the last look saw nothing."""

    async def reach_target(self, _: TaskGroup) -> Ended:
        """Wait until the database is at its target. Raises `LockTimeout` at the deadline."""
        began = time.monotonic()
        pause = _SHORTEST_SECONDS
        while True:
            ended = await self._ready()
            if ended is not None:
                if self.waited_seconds:
                    self.waited_seconds = time.monotonic() - began
                return ended
            self.waited_seconds = time.monotonic() - began
            left = self._timeout_seconds - self.waited_seconds
            if left <= 0:
                raise self._timeout(await self._seen_at_work(at_once=True))
            holder = await self._seen_at_work()
            reason = self._busy.reason if self._busy is not None else None
            refusal = self._watch.refusal
            if reason is None and holder is None and refusal is not None and _stays(refusal):
                reason = f"it {refusal.seen}"
            self._peers.tell_waiting("database", self.waited_seconds, holder, reason)
            await anyio.sleep(min(left, pause * random.uniform(0.75, 1.25)))
            pause = min(_LONGEST_SECONDS, pause * 1.5)

    def unfinished(self, _: tuple[AppliedRevision, ...]) -> Ended:
        """What is known of a run that did not come to its end: nothing."""
        return Ended(versions=())

    async def _ready(self) -> Ended | None:
        self._busy = None
        try:
            return await in_thread(self._watch.ready, self._limiter)
        except DatabaseUnavailable as error:
            if not error.is_worth_waiting:
                raise
            self._busy = error
            return None  # the one that is followed is at work

    async def _seen_at_work(self, *, at_once: bool = False) -> Holder | None:
        """Who runs now: on this host, or, as a server tells, anywhere."""
        here = self._peers.holder()
        if self._database.file is not None or self._busy is not None:
            return here
        if at_once or self.waited_seconds >= self._next_look_seconds:
            self._next_look_seconds = self.waited_seconds + _LOOK_SECONDS
            self._leader = await in_thread(self._ask_server, self._limiter)
        return self._leader or here

    def _ask_server(self, _: Cancellation) -> Holder | None:
        try:
            with self._database.connect() as connection:
                return self._database.leader(connection)[1]
        except DatabaseUnavailable:
            return None  # the next look tells

    def _timeout(self, holder: Holder | None) -> LockTimeout | DatabaseUnavailable:
        if self._busy is not None:
            unseen = still(self._busy, self.waited_seconds, "lock_timeout_seconds")
            unseen.args = (f"{unseen} Until then nobody can tell whether it is at its target.",)
            return unseen
        refusal = self._watch.refusal
        advice = "another one has to migrate, by `orchestrator run --mode migrate`."
        if refusal is not None and holder is None and _stays(refusal):
            advice = f"somebody has to see to that. {refusal.advice}"
        return LockTimeout(
            f"The database {self._database.shown_url} was not at its target after "
            f"{self.waited_seconds:.1f} s"
            + (f": it {refusal.seen}. " if refusal is not None else ". ")
            + f"This process only follows: {advice} "
            + (f"Seen at work: {holder}. " if holder else "None was seen at work. ")
            + f"To wait longer, set {by_setting('lock_timeout_seconds')}.",
            lock=None,
            holder=holder,
            waited_seconds=self.waited_seconds,
        )
