"""Blocking work in a worker thread, which is told when nobody wants it any more."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, NoEventLoopError, from_thread, to_thread
from anyio.lowlevel import checkpoint

from orchestrator.errors import Interrupted

T = TypeVar("T")


async def in_thread(work: Callable[[], T], limiter: CapacityLimiter) -> T:
    """What `work` returns; waited for even when cancelled, as a thread cannot be stopped.

    `work` ends early by asking `is_cancelled` or calling `interrupt`.
    """
    try:
        return await to_thread.run_sync(work, limiter=limiter)
    except Interrupted:
        await checkpoint()  # raises: that is why it was interrupted
        raise AssertionError("interrupted without a cancellation") from None


def is_cancelled() -> bool:
    """Asked in the worker thread: whether the task that waits for it is cancelled."""
    try:
        from_thread.check_cancelled()
    except NoEventLoopError:
        raise
    except BaseException:  # noqa: BLE001 - each event loop has its own
        return True
    return False


def interrupt() -> None:
    """Called in the worker thread: raises `Interrupted` if it is not wanted any more."""
    if is_cancelled():
        raise Interrupted
