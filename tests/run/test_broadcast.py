"""Events on their way: sinks that wait, raise or emit, a loop that is busy, a forked child."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from anyio import from_thread, to_thread

from orchestrator.events import DatabaseReady, Event, Warned
from orchestrator.run.broadcast import Broadcast
from tests.projects import Project

DEADLINE_SECONDS = 20.0
READY = DatabaseReady(versions=(), applied=(), led=False, duration_seconds=0.0)


def run_in_loop(backend: str, main: Callable[[], Awaitable[Any]]) -> Any:
    """What `main` returns; in a thread of its own: a loop that stands still is a failure."""
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(anyio.run(main, backend=backend)), daemon=True
    )
    thread.start()
    thread.join(DEADLINE_SECONDS)
    assert results, "the loop has not ended"
    return results[0]


def assert_in_order(events: list[Event], *messages: str) -> None:
    """These warnings, stamped one after the other."""
    assert [event.sequence for event in events] == list(range(len(messages)))
    assert [event.message for event in events if isinstance(event, Warned)] == list(messages)


class TestSinksThatWait:
    """A sink in a worker thread may wait for the event loop."""

    def test_subscriber_is_served_meanwhile(self, anyio_backend: str) -> None:
        """While a sink waits for the loop, subscribers there get what came before."""
        broadcast = Broadcast("r")
        seen: list[Event] = []
        broadcast.emit(Warned(message="before"))
        broadcast.add(lambda _: seen.append(from_thread.run(anext, broadcast.events())))

        async def main() -> list[Event]:
            await to_thread.run_sync(broadcast.emit, READY)
            return [event async for event in broadcast.events()]

        events = run_in_loop(anyio_backend, main)
        assert seen == events[:1]
        assert isinstance(events[1], DatabaseReady)

    def test_loop_emits_meanwhile(self, anyio_backend: str) -> None:
        """What the loop emits while a sink waits for it comes next, to sinks and subscribers."""
        sunk: list[Event] = []

        async def answer() -> None:
            broadcast.emit(Warned(message="from the loop"))

        def sink(event: Event) -> None:
            if event.sequence == 0:
                from_thread.run(answer)

        broadcast = Broadcast("r", [sink, sunk.append])

        async def main() -> bool:
            await to_thread.run_sync(broadcast.emit, Warned(message="from a worker"))
            return True

        assert run_in_loop(anyio_backend, main)
        assert_in_order(sunk, "from a worker", "from the loop")
        assert broadcast.history == sunk

    def test_sink_emits(self, anyio_backend: str) -> None:
        """A sink that emits, as one does that could not write the record, waits for nothing."""
        sunk: list[Event] = []

        def sink(event: Event) -> None:
            if event.sequence == 0:
                broadcast.emit(Warned(message="second"))

        broadcast = Broadcast("r", [sink, sunk.append])

        async def main() -> bool:
            broadcast.emit(Warned(message="first"))
            return True

        assert run_in_loop(anyio_backend, main)
        assert_in_order(sunk, "first", "second")


class TestBusyLoop:
    """A worker never waits for a subscriber's loop."""

    def test_emit_returns_while_the_loop_stands_still(self, anyio_backend: str) -> None:
        """An event is emitted while the loop does something else; the subscriber has it then."""
        broadcast = Broadcast("r")
        blocked, emitted = threading.Event(), threading.Event()
        got: list[Event] = []

        async def subscribe() -> None:
            got.extend([event async for event in broadcast.events()])

        def work() -> None:
            blocked.wait(DEADLINE_SECONDS)
            broadcast.emit(READY)
            emitted.set()

        async def main() -> bool:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(subscribe)
                await anyio.wait_all_tasks_blocked()
                tasks.start_soon(to_thread.run_sync, work)
                await anyio.wait_all_tasks_blocked()
                blocked.set()
                return emitted.wait(DEADLINE_SECONDS / 4)  # this is what blocks the loop

        assert run_in_loop(anyio_backend, main)
        assert got == broadcast.history

    def test_loop_has_ended(self, anyio_backend: str) -> None:
        """An event that comes when the subscriber's loop is gone is nobody's fault."""
        broadcast = Broadcast("r")

        async def main() -> bool:
            with anyio.move_on_after(0):
                await anext(broadcast.events())
            broadcast.next_arrival()
            return True

        assert run_in_loop(anyio_backend, main)
        broadcast.emit(READY)
        assert len(broadcast.history) == 1


class TestSinksThatRaise:
    """Whatever a sink raises, the event is delivered."""

    @pytest.mark.parametrize(
        "error", [SystemExit, GeneratorExit, asyncio.CancelledError, KeyboardInterrupt]
    )
    def test_any_exception(
        self, error: type[BaseException], anyio_backend: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What ends a program or a task elsewhere leaves the sink out, and costs no event."""
        calls: list[Event] = []
        sunk: list[Event] = []

        def fail(event: Event) -> None:
            calls.append(event)
            raise error("a sink of the test")

        broadcast = Broadcast("r", [fail, sunk.append])

        async def main() -> list[Event]:
            await to_thread.run_sync(broadcast.emit, Warned(message="first"))
            broadcast.emit(READY)
            return [event async for event in broadcast.events()]

        assert run_in_loop(anyio_backend, main) == sunk == broadcast.history
        assert len(sunk) == 2
        assert len(calls) == 1
        assert "a sink of the test" in caplog.text

    def test_interrupt_of_the_main_thread(self) -> None:
        """Ctrl-C that meets the main thread in a sink comes out when the event is delivered.

        It is no fault of the sink's, which is kept.
        """
        calls: list[Event] = []
        sunk: list[Event] = []

        def interrupted(event: Event) -> None:
            calls.append(event)
            if len(calls) == 1:
                raise KeyboardInterrupt

        broadcast = Broadcast("r", [interrupted, sunk.append])
        with pytest.raises(KeyboardInterrupt):
            broadcast.emit(Warned(message="first"))
        broadcast.emit(READY)

        assert calls == sunk == broadcast.history
        assert len(sunk) == 2


FORKING_ENV_PY = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from orchestrator.environment import run_migrations

fork = multiprocessing.get_context("fork")
"""
IN_A_PROCESS = """
child = fork.Process(target=run_migrations)
child.start()
child.join()
"""
IN_A_POOL = """
with ProcessPoolExecutor(1, mp_context=fork) as pool:
    pool.submit(run_migrations).result()
"""


class TestForkedChild:
    """An `env.py` that migrates in a forked child."""

    @pytest.mark.parametrize("way", [IN_A_PROCESS, IN_A_POOL], ids=["process", "pool"])
    def test_is_refused(self, project: Project, way: str) -> None:
        """Child and run end, in words that say what to do, and nothing was migrated."""
        project.chain(2)
        project.write("migrations/env.py", FORKING_ENV_PY + way)

        ended = project.run("run")

        assert ended.code == 2
        assert "env.py migrates in a forked child process" in ended.stderr
        tables = sqlite3.connect(project.database).execute("SELECT name FROM sqlite_master")
        assert tables.fetchall() == []
        events = project.journal()
        assert [event["sequence"] for event in events] == list(range(len(events)))
        assert events[-1]["event"] == "run_failed"
