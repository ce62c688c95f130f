"""The mode `require`: the database is at its target, or the run is refused at once."""

from __future__ import annotations

from collections.abc import Callable

from anyio import CapacityLimiter
from anyio.abc import TaskGroup

from orchestrator.decision.job import Policy
from orchestrator.events import Event
from orchestrator.results import AppliedRevision, Ended
from orchestrator.run.resources import Resources
from orchestrator.run.threads import in_thread
from orchestrator.run.watch import Watch


class Requirement:
    """Looks once; it neither migrates nor waits for who does, nor writes anything."""

    waited_seconds = 0.0

    def __init__(
        self,
        resources: Resources,
        policy: Policy,
        limiter: CapacityLimiter,
        *,
        emit: Callable[[Event], object],
    ) -> None:
        self._watch = Watch(resources, policy, emit=emit)
        self._limiter = limiter

    async def reach_target(self, _: TaskGroup) -> Ended:
        """The end of the run. Raises `StateRefused` where there is something to do."""
        return await in_thread(self._watch.require, self._limiter)

    def unfinished(self, _: tuple[AppliedRevision, ...]) -> Ended:
        """What is known of a run that was refused: nothing."""
        return Ended(versions=())
