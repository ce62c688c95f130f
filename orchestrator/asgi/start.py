"""One start behind the gate: the run, then the application's lifespan, and the way out."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup

from orchestrator.asgi.inner import ASGIApp, Inner, Scope, StartupFailed
from orchestrator.errors import OrchestratorError, StateRefused
from orchestrator.events import Event
from orchestrator.orchestrator import Orchestrator, Run
from orchestrator.results import Preview, RunReport
from orchestrator.run.tailing import tail_journal
from orchestrator.timeline.board import Board

OnFailure = Literal["closed", "exit"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """What becomes of a start that fails, and who is told of its events."""

    on_failure: OnFailure = "closed"
    on_startup_failure: OnFailure = "exit"
    retry_after_seconds: float | None = None
    on_event: Callable[[Event], object] | None = None
    development: bool = False


class Start:
    """Runs the orchestrator, and starts the application when the database is at its target.

    `state` is what requests get then; until then it is None. `scope` is the server's lifespan;
    where there is none, the application gets none either.
    """

    def __init__(self, app: ASGIApp, orchestrator: Orchestrator, behaviour: Behaviour) -> None:
        self.board = Board(again=behaviour.retry_after_seconds is not None)
        self.state: dict[str, Any] | None = None
        self._app = app
        self._orchestrator = orchestrator
        self._behaviour = behaviour
        self._run: Run | None = None
        self._inner: Inner | None = None
        self._closing = anyio.Event()
        self._asked = anyio.Event()
        self._settled = anyio.Event()

    @property
    def is_closing(self) -> bool:
        """Whether the server shuts down, and what is at work is waited for."""
        return self._closing.is_set()

    @property
    def is_over(self) -> bool:
        """Whether nothing comes any more: the gate is open, or stays closed."""
        return self._settled.is_set()

    async def work(self, tasks: TaskGroup, scope: Scope | None) -> None:
        """Open the gate, or find out that it stays closed; `tasks` live as long as the server."""
        try:
            report = await self._migrate()
            if report is None or self.is_closing:
                return
            state: dict[str, Any] = {}
            if scope is not None:
                inner = self._inner = Inner(self._app, scope)
                tasks.start_soon(inner.run)
                try:
                    await inner.started()
                except StartupFailed as error:
                    if not self._closing.is_set():  # else it was not let come to its end
                        self._startup_failed(str(error))
                    return
                if self._closing.is_set():
                    return
                state = inner.state
            state["migration"] = report
            self.state = state
        finally:
            self._settled.set()

    def migrate(self) -> bool:
        """Somebody asks for what is offered; whether anything is."""
        if self.board.own.offer is None:
            return False
        self._asked.set()
        return True

    async def close(self) -> str | None:
        """End in order: a run that waits at once, one that works after its revision.

        Returns what the application says of a shutdown that failed.
        """
        self._closing.set()
        self._asked.set()
        if self._run is not None:
            self._run.cancel()
        # From here on no application is started that has not begun to.
        farewell = await self._inner.stop() if self._inner is not None else None
        await self._settled.wait()
        return farewell

    async def _migrate(self) -> RunReport | None:
        """The report of the run that reached the target; None where none did."""
        again = self._behaviour.retry_after_seconds
        orchestrator = self._orchestrator
        offer: Preview | None = None
        while not self._closing.is_set():
            self.board.begin()
            try:
                async with orchestrator.start(on_event=self._behaviour.on_event) as run:
                    self._run = run
                    await self._follow(run)
                return run.report if self.board.own.phase == "opening" else None
            except OrchestratorError as error:
                offer = await self._offer(error, offer)
                if offer is not None:
                    await self._wait_for_somebody(offer, error)
                    orchestrator = self._orchestrator.with_settings(mode="migrate")
                    continue
                self._failed(error)
            if again is None:
                return None
            with anyio.move_on_after(again):
                await self._closing.wait()
        return None

    async def _offer(self, error: OrchestratorError, before: Preview | None) -> Preview | None:
        """What somebody may ask for in development, where `mode = "require"` leaves it to them."""
        if not self._behaviour.development or self._orchestrator.settings.mode != "require":
            return None
        if not isinstance(error, StateRefused):
            return before  # it was asked for, and has failed
        try:
            found = await self._orchestrator.plan()
        except OrchestratorError:
            return None
        return found if found.tasks else None

    async def _wait_for_somebody(self, offer: Preview, error: OrchestratorError) -> None:
        """Until it is asked for, or the server shuts down."""
        own, self._asked = self.board.own, anyio.Event()
        own.offer = offer
        if isinstance(error, StateRefused):
            own.phase, own.message = "pending", None
            logging.getLogger("orchestrator").warning(
                "The database is not at its target. Open the application in a browser on this "
                "machine to see what is pending, and to migrate."
            )
        if not self._closing.is_set():
            await self._asked.wait()

    async def _follow(self, run: Run) -> None:
        """Take down what becomes of a run, and of those beside it."""
        async with anyio.create_task_group() as tasks:
            watching, done = False, anyio.Event()
            async for event in run.events():
                self.board.take_own(event)
                if not watching:
                    watching = True
                    tasks.start_soon(
                        tail_journal, self._orchestrator.resources, self.board.take_entry, done
                    )
            if self.board.own.phase == "failed":  # another one's failure, perhaps
                done.set()
            else:
                tasks.cancel_scope.cancel()

    def _failed(self, error: OrchestratorError) -> None:
        again = self._behaviour.retry_after_seconds
        if self._behaviour.on_failure == "exit":
            end = "The process ends."
        elif again is None:
            end = "It is not tried again: the gate stays closed."
        else:
            end = f"It is tried again in {again:g} s."
        logging.getLogger("orchestrator").error("The database is not at its target. %s", end)
        if self._behaviour.on_failure == "exit":
            _exit(error.exit_code, str(error))

    def _startup_failed(self, message: str) -> None:
        self.board.own.phase, self.board.own.message = "startup_failed", message
        if self._behaviour.on_startup_failure == "exit":
            _exit(1, f"The application did not start. {message}")
        logging.getLogger("orchestrator").error("The application did not start. %s", message)


def _exit(code: int, message: str) -> None:
    """End the process, whose server cannot be told to: nothing is open that has to be closed."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
        sys.stdout.flush()
    logging.shutdown()
    os._exit(code)
