"""Serves at once, and lets nobody in before the database is at its target."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import anyio
from anyio.abc import TaskGroup

from orchestrator.asgi.answers import answer, refuse_method, turn_away
from orchestrator.asgi.background import begin
from orchestrator.asgi.board import Board
from orchestrator.asgi.inner import ASGIApp, Inner, Receive, Scope, Send, StartupFailed
from orchestrator.asgi.progress import Details
from orchestrator.asgi.watching import watch
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.events import Event
from orchestrator.orchestrator import Orchestrator, Run

OnFailure = Literal["closed", "exit"]
_RETRY_AFTER_SECONDS: Final = 5
"""What a client is told, who knows nothing of how long it takes."""


class Gate:
    """An ASGI application that stands before another one until the database is at its target.

        app = Gate(FastAPI(), Orchestrator.from_config())

    The server serves at once. `livez` is answered with 200 from the beginning, `readyz` with 503
    until the gate is open, and all else with 503. The run is the server's lifespan's, or, where the
    server sends none, begins with the first request. Once the database is at its target, the
    application's own lifespan starts, and the gate is out of the way; its `RunReport` is
    `request.state.migration`. A path that is None is not answered by the gate.

    `details` is what is told meanwhile: `public` that it is being upgraded and how far it is;
    `local` also names, to clients on this machine; `off` nothing else.

    A run that fails leaves the gate closed (`on_failure="closed"`), and is tried again after
    `retry_after_seconds` (None: never); `"exit"` ends the process with the error's exit code. So
    does a failed startup of the application (`on_startup_failure`), with 1. `on_event` gets each
    event, and may be asynchronous; see `Orchestrator.start`.
    """

    def __init__(
        self,
        app: ASGIApp,
        orchestrator: Orchestrator,
        *,
        livez: str | None = "/livez",
        readyz: str | None = "/readyz",
        details: Details = "public",
        on_failure: OnFailure = "closed",
        on_startup_failure: OnFailure = "exit",
        retry_after_seconds: float | None = None,
        on_event: Callable[[Event], object] | None = None,
    ) -> None:
        _check("details", details, get_args(Details))
        for name, value in (
            ("on_failure", on_failure),
            ("on_startup_failure", on_startup_failure),
        ):
            _check(name, value, get_args(OnFailure))
        self.app = app
        self.orchestrator = orchestrator
        self.board = Board()
        self._livez = livez
        self._readyz = readyz
        self._ends = tuple(path for path in (livez, readyz) if path)
        self._details = details
        self._on_failure = on_failure
        self._on_startup_failure = on_startup_failure
        self._retry_after_seconds = retry_after_seconds
        self._on_event = on_event
        self._forget()

    def _forget(self) -> None:
        """As it is before the first start, and after each shutdown: a test may have several."""
        self._state: dict[str, Any] | None = None
        self._begun = False
        self._run: Run | None = None
        self._inner: Inner | None = None
        self._closing = anyio.Event()

    @property
    def is_open(self) -> bool:
        """Whether requests reach the application."""
        return self._state is not None

    @property
    def is_closing(self) -> bool:
        """Whether the server shuts down, and what is at work is waited for."""
        return self._closing.is_set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the server calls an application."""
        state = self._state
        if state is not None and scope["type"] != "lifespan":
            if scope["path"].endswith(self._ends) and await self._answered(scope, send):
                return
            scope["state"] = {**scope.get("state", {}), **state}
            await self.app(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        else:
            await self._meet(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The server's lifespan: it is told at once that all is well."""
        await receive()
        try:
            self._refuse_routes()
        except ConfigurationError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        farewell = None
        async with anyio.create_task_group() as tasks:
            done = self._begin(tasks, scope)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            farewell = await self._close(done)
        self._forget()
        if farewell is None:
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "lifespan.shutdown.failed", "message": farewell})

    async def _meet(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request while the gate is closed."""
        if not self._begun:
            self._refuse_routes()
            begin(self._serve_alone)
        if scope["type"] == "websocket":
            await turn_away(scope, receive, send, retry_after_seconds=_RETRY_AFTER_SECONDS)
        elif not await self._answered(scope, send):
            await answer(
                scope, send, 503, self._told(scope), retry_after_seconds=_RETRY_AFTER_SECONDS
            )

    async def _answered(self, scope: Scope, send: Send) -> bool:
        """Answer a request for a path of the gate's own; whether it was one."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path not in self._ends:
            return False
        if scope["method"] not in ("GET", "HEAD"):
            await refuse_method(send)
        elif path == self._livez:
            await answer(scope, send, 200, {"status": "alive"})
        elif self.is_open:
            await answer(scope, send, 200, {"status": "ready"})
        else:
            told = self._told(scope)
            await answer(scope, send, 503, told, retry_after_seconds=_RETRY_AFTER_SECONDS)
        return True

    def _told(self, scope: Scope) -> dict[str, Any]:
        local = self._details == "local" and _is_local(scope)
        details: Details = "local" if local else "off" if self._details == "off" else "public"
        return self.board.told(details, at=datetime.now(UTC))

    def _begin(self, tasks: TaskGroup, scope: Scope | None) -> anyio.Event:
        """Begin the work; set when it has ended, whether the gate is open then or not."""
        self._begun = True
        done = anyio.Event()
        tasks.start_soon(self._work, tasks, scope, done)
        return done

    async def _serve_alone(self) -> None:
        """Where the server has no lifespan, the application gets none either."""
        async with anyio.create_task_group() as tasks:
            self._begin(tasks, None)

    async def _work(self, tasks: TaskGroup, scope: Scope | None, done: anyio.Event) -> None:
        try:
            report = await self._migrate()
            if report is None:
                return
            state: dict[str, Any] = {}
            if scope is not None:
                inner = self._inner = Inner(self.app, scope)
                tasks.start_soon(inner.run)
                try:
                    await inner.started()
                except StartupFailed as error:
                    self._startup_failed(str(error))
                    return
                state = inner.state
            state["migration"] = report
            self._state = state
        finally:
            done.set()

    async def _migrate(self) -> Any:
        """The report of the run that reached the target; None where none did."""
        while not self._closing.is_set():
            self.board.begin()
            try:
                async with self.orchestrator.start(on_event=self._on_event) as run:
                    self._run = run
                    await self._follow(run)
                return run.report if self.board.own.phase == "opening" else None
            except OrchestratorError as error:
                self._failed(error)
            if self._retry_after_seconds is None:
                return None
            with anyio.move_on_after(self._retry_after_seconds):
                await self._closing.wait()
        return None

    async def _follow(self, run: Run) -> None:
        """Take down what becomes of a run, and of those beside it."""
        async with anyio.create_task_group() as tasks:
            watching = False
            async for event in run.events():
                self.board.take_own(event)
                if not watching:
                    watching = True
                    tasks.start_soon(watch, self.orchestrator, self.board.take_entry)
            tasks.cancel_scope.cancel()

    def _failed(self, error: OrchestratorError) -> None:
        again = (
            "It is not tried again: the gate stays closed."
            if self._retry_after_seconds is None
            else f"It is tried again in {self._retry_after_seconds:g} s."
        )
        end = "The process ends." if self._on_failure == "exit" else again
        logging.getLogger("orchestrator").error("The database is not at its target. %s", end)
        if self._on_failure == "exit":
            _exit(error.exit_code, str(error))

    def _startup_failed(self, message: str) -> None:
        """The application cannot start."""
        self.board.own.phase, self.board.own.message = "failed", "The application did not start."
        if self._on_startup_failure == "exit":
            _exit(1, f"The application did not start. {message}")
        logging.getLogger("orchestrator").error("The application did not start. %s", message)

    async def _close(self, done: anyio.Event) -> str | None:
        """End in order, whatever it is at: a run that waits at once, one that works after that."""
        self._closing.set()
        if self._run is not None:
            self._run.cancel()
        await done.wait()
        return await self._inner.stop() if self._inner is not None else None

    def _refuse_routes(self) -> None:
        for route in getattr(self.app, "routes", ()):
            path = getattr(route, "path", None)
            if path in self._ends:
                name = "livez" if path == self._livez else "readyz"
                raise ConfigurationError(
                    f"The application has a route {path}, which the gate answers itself. Give the "
                    f"gate another path, or none: `Gate(…, {name}=None)`.",
                    setting=name,
                )


def _is_local(scope: Scope) -> bool:
    """Whether the client is on this machine, as far as no proxy speaks for another one."""
    headers = dict(scope["headers"])
    host = headers.get(b"host", b"").rsplit(b":", 1)[0]
    return (
        (scope.get("client") or ("",))[0] in ("127.0.0.1", "::1")
        and host in (b"localhost", b"127.0.0.1", b"[::1]")
        and not any(name.startswith((b"x-forwarded", b"forwarded")) for name in headers)
    )


def _check(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(
            f"`Gate(…, {name}={value!r})`: it is one of {', '.join(map(repr, allowed))}.",
            setting=name,
        )


def _exit(code: int, message: str) -> None:
    """End the process, whose server cannot be told to: nothing is open that has to be closed."""
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
        sys.stdout.flush()
    logging.shutdown()
    os._exit(code)
