"""The one loop that waits for any lock, with a lock that is told when to be free."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest
from anyio import to_thread

from orchestrator.errors import LockTimeout
from orchestrator.locks.base import Lock
from orchestrator.locks.waiting import acquire, hold

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 30


class ToldLock(Lock):
    """Free from its n-th try on; knows whether it is held."""

    name = "told"
    quick = True

    def __init__(self, free_at: int | None) -> None:
        self.tries = 0
        self.held = False
        self.times: list[float] = []
        self._free_at = free_at

    def try_acquire(self) -> bool:
        self.tries += 1
        self.times.append(time.monotonic())
        self.held = self._free_at is not None and self.tries >= self._free_at
        return self.held

    def release(self) -> None:
        self.held = False


async def go_on(_: float) -> bool:
    return False


def ready_at(look: int) -> Callable[[float], Awaitable[bool]]:
    looks = itertools.count(1)

    async def between_tries(_: float) -> bool:
        return next(looks) >= look

    return between_tries


async def test_a_free_lock_is_not_waited_for() -> None:
    """One try, no look in between, held inside the block and free after it."""

    async def never(_: float) -> bool:
        raise AssertionError("nothing was waited for")

    lock = ToldLock(1)
    async with hold(lock, timeout_seconds=5, between_tries=never) as waited:
        assert (waited, lock.held, lock.tries) == (0.0, True, 1)
    assert not lock.held


async def test_it_is_taken_when_it_is_free() -> None:
    """Tried again and again, each time some tens of milliseconds later."""
    lock = ToldLock(5)
    with anyio.fail_after(DEADLINE_SECONDS):
        async with hold(lock, timeout_seconds=float("inf"), between_tries=go_on) as waited:
            assert waited is not None
            assert waited >= 4 * 0.02
            assert lock.tries == 5
    pauses = [later - sooner for sooner, later in itertools.pairwise(lock.times)]
    assert min(pauses) >= 0.019


async def test_a_timeout_of_nothing_is_two_tries() -> None:
    """At least 20 ms apart, so that somebody who only looks is gone by the second."""
    lock = ToldLock(None)
    with pytest.raises(LockTimeout):
        await acquire(lock, timeout_seconds=0, between_tries=go_on)
    assert lock.tries == 2
    assert lock.times[1] - lock.times[0] >= 0.019
    assert await acquire(ToldLock(2), timeout_seconds=0, between_tries=go_on) is not None


async def test_the_deadline() -> None:
    """The error tells the lock and how long it was waited for; the last try is at the deadline."""
    lock = ToldLock(None)
    began = time.monotonic()
    with pytest.raises(LockTimeout) as caught:
        await acquire(lock, timeout_seconds=0.2, between_tries=go_on)
    assert caught.value.lock == "told"
    assert caught.value.waited_seconds >= 0.2
    assert lock.times[-1] - began >= 0.2


@pytest.mark.parametrize("look", [1, 2, 4])
async def test_a_lock_that_is_not_needed_any_more(look: int) -> None:
    """The look comes before each try but the first: those who are made ready leave together."""
    tries = max(1, look - 1)
    lock = ToldLock(tries + 1)  # free at the very try that must not come
    async with hold(lock, timeout_seconds=30, between_tries=ready_at(look)) as waited:
        assert waited is None
        assert (lock.tries, lock.held) == (tries, False)


async def test_an_error_of_the_look_ends_the_waiting() -> None:
    """What it raises is raised, and nothing is held."""

    async def fail(_: float) -> bool:
        raise LookupError("no")

    lock = ToldLock(None)
    with pytest.raises(LookupError):
        async with hold(lock, timeout_seconds=30, between_tries=fail):
            raise AssertionError("not reached")
    assert not lock.held


async def test_an_error_of_the_block_lets_go() -> None:
    """The lock is free after the block, however it ends."""
    lock = ToldLock(1)
    with pytest.raises(LookupError):
        async with hold(lock, timeout_seconds=30, between_tries=go_on):
            raise LookupError
    assert not lock.held


async def test_cancelled_before_the_first_try() -> None:
    """A run that is not wanted any more does not take a free lock."""
    lock = ToldLock(1)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await acquire(lock, timeout_seconds=30, between_tries=go_on)
    assert (lock.tries, lock.held) == (0, False)


async def test_cancelled_while_it_waits() -> None:
    """At once, and nothing is held."""
    lock = ToldLock(None)
    with anyio.fail_after(DEADLINE_SECONDS), anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:

            async def cancel_later() -> None:
                while lock.tries < 3:  # noqa: ASYNC110 - the lock knows no event
                    await anyio.sleep(0.005)
                scope.cancel()

            tasks.start_soon(cancel_later)
            await acquire(lock, timeout_seconds=float("inf"), between_tries=go_on)
    assert scope.cancelled_caught
    assert not lock.held


async def test_cancelled_inside_the_block() -> None:
    """The release is not a point of cancellation."""
    lock = ToldLock(1)
    with anyio.CancelScope() as scope:
        async with hold(lock, timeout_seconds=30, between_tries=go_on):
            scope.cancel()
            await anyio.sleep(DEADLINE_SECONDS)
    assert scope.cancelled_caught
    assert not lock.held


class SlowLock(Lock):
    """A lock that is asked in a thread; a try goes on until it is let through."""

    name = "slow"
    quick = False

    def __init__(self) -> None:
        self.let_through = threading.Event()
        self.asked = threading.Event()
        self.held = False
        self.threads: set[int] = set()

    def try_acquire(self) -> bool:
        self.threads.add(threading.get_ident())
        self.asked.set()
        assert self.let_through.wait(DEADLINE_SECONDS)
        self.held = True
        return True

    def release(self) -> None:
        self.threads.add(threading.get_ident())
        self.held = False


async def test_a_slow_lock_leaves_the_event_loop_free() -> None:
    """It is this loop that lets the try through, while the try waits for it."""
    lock = SlowLock()

    async def let_through() -> None:
        await to_thread.run_sync(lock.asked.wait, DEADLINE_SECONDS)
        lock.let_through.set()

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_through)
            async with hold(lock, timeout_seconds=5, between_tries=go_on):
                assert lock.held

    assert not lock.held
    assert threading.get_ident() not in lock.threads


async def test_a_try_that_comes_through_after_a_cancellation_is_taken_back() -> None:
    """A thread cannot be stopped: whoever is cancelled meanwhile holds nothing in the end."""
    lock = SlowLock()

    async def take() -> None:
        async with hold(lock, timeout_seconds=5, between_tries=go_on):
            await anyio.sleep_forever()

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await to_thread.run_sync(lock.asked.wait, DEADLINE_SECONDS)
            tasks.cancel_scope.cancel()
            lock.let_through.set()

    assert not lock.held


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_slow_try_and_asyncios_own_cancellation() -> None:
    """No scope of anyio's shields from `task.cancel()`; the try is taken back all the same."""
    lock = SlowLock()

    async def take() -> None:
        limiter = anyio.CapacityLimiter(1)  # so that the release comes after the try
        async with hold(lock, timeout_seconds=5, between_tries=go_on, limiter=limiter):
            await anyio.sleep_forever()

    task = asyncio.create_task(take())
    await to_thread.run_sync(lock.asked.wait, DEADLINE_SECONDS)
    task.cancel()
    await asyncio.sleep(0.01)
    lock.let_through.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    deadline = time.monotonic() + DEADLINE_SECONDS
    while lock.held:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)
