"""The one loop that waits for any lock."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio

from orchestrator.errors import LockTimeout
from orchestrator.locks.base import Lock

_POLL_SECONDS: Final = (0.02, 0.05)
_SECOND_TRY_SECONDS: Final = 0.02


@asynccontextmanager
async def hold(
    lock: Lock,
    *,
    timeout_seconds: float,
    between_tries: Callable[[float], Awaitable[bool]],
) -> AsyncIterator[float | None]:
    """Hold the lock for the length of the block; yields how many seconds it was waited for.

    After each try that fails, `between_tries` is awaited with the seconds waited so far. If it
    returns True the lock is not needed any more, and None is yielded without it; what it
    raises ends the waiting. With a timeout of 0 there are two tries, 20 ms apart: a single
    one could meet somebody who only looks whether the lock is held.

    Raises `LockTimeout` at the deadline. Cancellation while waiting holds nothing, and the
    release is not a point of cancellation.
    """
    waited = await acquire(lock, timeout_seconds=timeout_seconds, between_tries=between_tries)
    try:
        yield waited
    finally:
        lock.release()


async def acquire(
    lock: Lock,
    *,
    timeout_seconds: float,
    between_tries: Callable[[float], Awaitable[bool]],
) -> float | None:
    """Take the lock as `hold` does, and leave the release to the caller."""
    began = time.monotonic()
    await anyio.lowlevel.checkpoint()
    last_try = False
    while not lock.try_acquire():
        waited = time.monotonic() - began
        if last_try:
            raise LockTimeout(
                f"The {lock.name} lock was held for the {waited:.1f} s that were waited. "
                "Nothing was changed.",
                lock=lock.name,
                holder=None,
                waited_seconds=waited,
            )
        if await between_tries(waited):
            return None
        left = timeout_seconds - (time.monotonic() - began)
        pause = max(_SECOND_TRY_SECONDS, min(left, random.uniform(*_POLL_SECONDS)))
        last_try = left <= pause
        await anyio.sleep(pause)
    return time.monotonic() - began
