"""Follows the journal for what other processes of this host are at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import anyio
from anyio import to_thread

from orchestrator.errors import OrchestratorError
from orchestrator.journal.follower import Follower
from orchestrator.journal.reader import Tally
from orchestrator.run.resources import Resources

_EVERY_SECONDS: Final = 0.25
_RECENT_BYTES: Final = 256 * 1024
"""How much of what was written before is read: whoever leads may have begun long ago."""


async def tail_journal(
    resources: Resources, take: Callable[[Mapping[str, Any]], object], done: anyio.Event
) -> None:
    """Give each line of the journal that is about this database, until it is `done`.

    Nothing comes where there is no journal, or it cannot be read. To be called when the database is
    known: when a run has told its first event, or somebody has looked.
    """
    with suppress(OrchestratorError, OSError):
        path = resources.journal_path
        database = resources.origin().database
        if path is None:
            return
        limiter = anyio.CapacityLimiter(1)  # never queues behind the application's threads
        follower = await to_thread.run_sync(
            lambda: Follower([path], Tally(), recent_bytes=_RECENT_BYTES), limiter=limiter
        )
        try:
            last = False
            while not last:
                last = done.is_set()  # then what was written before that is given, too
                for entry in await to_thread.run_sync(follower.poll, limiter=limiter):
                    if entry.values.get("database") == database:
                        take(entry.values)
                with anyio.move_on_after(_EVERY_SECONDS):
                    await done.wait()
        finally:
            follower.close()
