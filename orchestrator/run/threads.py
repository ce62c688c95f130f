"""Blocking work in a worker thread, which is told when nobody wants it any more."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

import anyio
from anyio import CapacityLimiter, from_thread, to_thread
from anyio.lowlevel import checkpoint

from orchestrator.errors import Interrupted

T = TypeVar("T")


class Cancellation:
    """A flag that the event loop sets, and that may be read in any thread.

    Not only in the one that the work began in: `env.py` may carry it to another, and from
    there into an event loop of its own.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._worker: int | None = None

    def enter_worker(self) -> None:
        """Say that this is the thread that the event loop has given to the work."""
        self._worker = threading.get_ident()

    def request(self) -> None:
        """Say that the work is not wanted any more."""
        self._event.set()

    def is_requested(self) -> bool:
        """Whether the work is not wanted any more.

        The flag is set when the event loop comes to it; in its own worker thread a cancellation
        is known at once.
        """
        if not self._event.is_set() and threading.get_ident() == self._worker:
            try:
                from_thread.check_cancelled()
            except Exception:  # noqa: BLE001, S110 - inside of a loop of `env.py`'s: the flag tells
                pass
            except BaseException:  # noqa: BLE001 - each event loop has its own
                self._event.set()
        return self._event.is_set()

    def interrupt(self) -> None:
        """Raise `Interrupted` if the work is not wanted any more."""
        if self.is_requested():
            raise Interrupted


async def in_thread(work: Callable[[Cancellation], T], limiter: CapacityLimiter) -> T:
    """What `work` returns; waited for even when cancelled, as a thread cannot be stopped.

    `work` ends early by asking the cancellation. What it returns all the same is not lost: the
    task is then cancelled at its next checkpoint.
    """
    cancellation = Cancellation()
    returned: list[T] = []
    raised: list[BaseException] = []

    async def watch() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancellation.request()

    def worked() -> None:
        cancellation.enter_worker()
        try:
            returned.append(work(cancellation))
        except BaseException as error:  # noqa: BLE001 - raised below, out of the task group
            raised.append(error)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await to_thread.run_sync(worked, limiter=limiter)
            tasks.cancel_scope.cancel()
    except anyio.get_cancelled_exc_class():
        if not returned and not raised:
            raise
    if not raised:
        return returned[0]
    if isinstance(raised[0], Interrupted):
        await checkpoint()  # raises: that is why it was interrupted
        raise AssertionError("interrupted without a cancellation")
    raise raised[0]
