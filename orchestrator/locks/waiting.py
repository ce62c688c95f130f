"""The one loop that waits for any lock."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import checkpoint

from orchestrator.errors import LockTimeout
from orchestrator.locks.base import Lock

_SECOND_TRY_SECONDS: Final = 0.02
_PATIENT_SECONDS: Final = 10.0
"""After so long the pauses are six times as long as at first, and grow no more."""
_RELEASE_SECONDS: Final = 5.0


@asynccontextmanager
async def hold(
    lock: Lock,
    *,
    timeout_seconds: float,
    between_tries: Callable[[float], Awaitable[bool]],
    limiter: CapacityLimiter | None = None,
) -> AsyncIterator[float | None]:
    """Hold the lock for the length of the block; yields how many seconds it was waited for.

    After the first try that fails, and before each that follows, `between_tries` is awaited
    with the seconds waited so far. If it returns True the lock is not needed any more, and None
    is yielded without it; what it raises ends the waiting. With a timeout of 0 there are two
    tries, 20 ms apart: a single one could meet somebody who only looks whether it is held.

    A lock that is not `quick` is tried and released in a thread, of `limiter`.

    Raises `LockTimeout` at the deadline. Cancellation while waiting holds nothing. The release
    is not a point of cancellation; one in a thread is waited for 5 s at most.
    """
    try:
        yield await acquire(
            lock, timeout_seconds=timeout_seconds, between_tries=between_tries, limiter=limiter
        )
    finally:
        # Also where acquire() was left in the middle: a try in a thread may have come through.
        await _release(lock, limiter)


async def acquire(
    lock: Lock,
    *,
    timeout_seconds: float,
    between_tries: Callable[[float], Awaitable[bool]],
    limiter: CapacityLimiter | None = None,
) -> float | None:
    """Take the lock as `hold` does, and leave the release to the caller."""
    began = time.monotonic()
    await checkpoint()
    if await _try(lock, limiter):
        return 0.0
    waited = 0.0
    if await between_tries(waited):
        return None
    while True:
        left = timeout_seconds - waited
        # Whoever has waited for long can wait a little longer, and hundreds of them cost as much.
        usual = random.uniform(*lock.poll_seconds) * (1 + min(waited, _PATIENT_SECONDS) / 2)
        pause = max(_SECOND_TRY_SECONDS, min(left, usual))
        await anyio.sleep(pause)
        waited = time.monotonic() - began
        # Looked at before each try, so that those whom the leader made ready leave together
        # instead of taking the lock in turn.
        if await between_tries(waited):
            return None
        if await _try(lock, limiter):
            return waited
        if left <= pause:
            raise LockTimeout(
                f"The {lock.name} lock was held for the {waited:.1f} s that were waited. "
                "Nothing was changed.",
                lock=lock.name,
                holder=None,
                waited_seconds=waited,
            )


async def _try(lock: Lock, limiter: CapacityLimiter | None) -> bool:
    if lock.quick:
        return lock.try_acquire()
    return await to_thread.run_sync(lock.try_acquire, limiter=limiter)


async def _release(lock: Lock, limiter: CapacityLimiter | None) -> None:
    if lock.quick:
        lock.release()
        return
    with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
        await to_thread.run_sync(lock.release, limiter=limiter, abandon_on_cancel=True)
