"""The mode `follow`: wait for a database that somebody else migrates, and take no lock."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from orchestrator.errors import DatabaseUnavailable, LockTimeout
from orchestrator.peers import Peers
from orchestrator.warm import Ended

_SHORTEST_SECONDS: Final = 0.25
_LONGEST_SECONDS: Final = 2.0


class Following:
    """Asks again and again whether the database is at its target.

    Every 0.25 s, then ever more seldom up to 2 s, jittered. `database` is its redacted URL.
    """

    def __init__(
        self,
        look: Callable[[], Awaitable[Ended | None]],
        peers: Peers,
        *,
        database: str,
        timeout_seconds: float,
    ) -> None:
        self.waited_seconds = 0.0
        self._look = look
        self._peers = peers
        self._database = database
        self._timeout_seconds = timeout_seconds

    async def until_ready(self) -> Ended:
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

    async def _ready(self) -> Ended | None:
        try:
            return await self._look()
        except DatabaseUnavailable as error:
            if not error.busy:
                raise
            return None  # the one that is followed is at work

    def _timeout(self) -> LockTimeout:
        holder = self._peers.holder()
        return LockTimeout(
            f"The database {self._database} was not at its target after "
            f"{self.waited_seconds:.1f} s. This process only follows: another one has to migrate. "
            + (f"Seen at work: {holder}." if holder else "None was seen at work."),
            lock=None,
            holder=holder,
            waited_seconds=self.waited_seconds,
        )
