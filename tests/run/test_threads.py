"""Work in a thread: told of a cancellation wherever it has gone to, and never lost."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from orchestrator.errors import Interrupted
from orchestrator.run.threads import Cancellation, in_thread

pytestmark = pytest.mark.anyio
DEADLINE_SECONDS = 30


async def test_what_is_returned_and_raised_comes_out() -> None:
    """As it is, and not in a group."""
    limiter = anyio.CapacityLimiter(1)

    def fail(_: Cancellation) -> None:
        raise ValueError("no")

    assert await in_thread(lambda _: 7, limiter) == 7
    with pytest.raises(ValueError, match="no"):
        await in_thread(fail, limiter)


@pytest.mark.parametrize("how", ["thread", "executor", "event loop in an executor"])
async def test_the_flag_is_read_in_whatever_thread(how: str) -> None:
    """In threads that no event loop of ours knows, and inside of another event loop."""
    asked = threading.Event()

    def wait(cancellation: Cancellation) -> bool:
        asked.set()
        for _ in range(DEADLINE_SECONDS * 100):
            if cancellation.is_requested():
                return True
            threading.Event().wait(0.01)
        return False

    def work(cancellation: Cancellation) -> bool:
        if how == "thread":
            return wait(cancellation)
        with ThreadPoolExecutor(1) as pool:
            if how == "executor":
                return pool.submit(wait, cancellation).result()

            async def hop() -> bool:
                return wait(cancellation)

            return pool.submit(asyncio.run, hop()).result()

    found: list[bool] = []
    limiter = anyio.CapacityLimiter(1)

    async def ask() -> None:
        found.append(await in_thread(work, limiter))
        await anyio.sleep_forever()

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await anyio.to_thread.run_sync(asked.wait)
            tasks.cancel_scope.cancel()

    assert found == [True]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
async def test_an_event_loop_inside_of_the_worker_is_no_cancellation(backend: str) -> None:
    """An asynchronous `env.py` runs one where the work began, and asks from within."""

    async def inside(cancellation: Cancellation) -> list[bool]:
        async with anyio.create_task_group() as tasks:
            tasks.cancel_scope.cancel()  # a matter of env.py's own
            asked = cancellation.is_requested()
        return [asked, cancellation.is_requested()]

    def work(cancellation: Cancellation) -> list[bool]:
        return anyio.run(inside, cancellation, backend=backend)

    assert await in_thread(work, anyio.CapacityLimiter(1)) == [False, False]


async def test_an_interrupted_work_is_a_cancelled_task() -> None:
    """`Interrupted` never comes out."""
    began = threading.Event()

    def work(cancellation: Cancellation) -> None:
        began.set()
        for _ in range(DEADLINE_SECONDS * 100):
            cancellation.interrupt()
            threading.Event().wait(0.01)

    limiter = anyio.CapacityLimiter(1)
    ended: list[str] = []

    async def run() -> None:
        try:
            await in_thread(work, limiter)
        except Interrupted:
            ended.append("interrupted")
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    with anyio.fail_after(DEADLINE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await anyio.to_thread.run_sync(began.wait)
            tasks.cancel_scope.cancel()

    assert ended == ["cancelled"]
