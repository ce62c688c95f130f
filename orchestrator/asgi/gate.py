"""Serves at once, and lets nobody in before the database is at its target."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, get_args

import anyio

from orchestrator.asgi import answers
from orchestrator.asgi.background import begin
from orchestrator.asgi.inner import ASGIApp, Receive, Scope, Send
from orchestrator.asgi.pace import Pace
from orchestrator.asgi.start import Behaviour, OnFailure, Start
from orchestrator.asgi.stream import Streams
from orchestrator.errors import ConfigurationError
from orchestrator.events import Event
from orchestrator.orchestrator import Orchestrator
from orchestrator.timeline.progress import Details

_LOOPBACK: Final = ("127.0.0.1", "::1")
_OF_PROXIES: Final = (b"x-forwarded", b"forwarded", b"x-real-ip", b"via", b"cdn-loop")
_LOCAL_NAMES: Final = (b"localhost", b"127.0.0.1", b"[::1]")


class Gate:
    """An ASGI application that stands before another one until the database is at its target.

        app = Gate(FastAPI(), Orchestrator.from_config())

    Or as a middleware: `app.add_middleware(Gate, orchestrator=Orchestrator.from_config())`.

    The server serves at once. `livez` is answered with 200 from the beginning, `readyz` with 503
    until the gate is open, and all else with 503: JSON, or to browsers a page that shows the work.
    The run is the server's lifespan's, or, where the server sends none, begins with the first
    request. Once the database is at its target, the application's own lifespan starts, and the
    gate is out of the way; its `RunReport` is `request.state.migration`. A path that is None is
    not answered by the gate.

    `details` is what is told meanwhile: `public` that it is being upgraded and how far it is;
    `local` also names, to clients on this machine; `off` nothing else.

    A run that fails leaves the gate closed (`on_failure="closed"`), and is tried again after
    `retry_after_seconds` (None: never); `"exit"` ends the process with the error's exit code. So
    does a failed startup of the application (`on_startup_failure`), with 1. `on_event` gets each
    event, and may be asynchronous; see `Orchestrator.start`.

    With `development`, clients on this machine are told all, and where `mode = "require"` refuses
    a database that a run would migrate, the page lists what is pending, with a button that does it.
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
        development: bool = False,
    ) -> None:
        _check("details", details, get_args(Details))
        _check("on_failure", on_failure, get_args(OnFailure))
        _check("on_startup_failure", on_startup_failure, get_args(OnFailure))
        self.app = app
        self.orchestrator = orchestrator
        self._livez = livez
        self._readyz = readyz
        self._own = tuple(path for path in (livez, readyz) if path)
        self._details = details
        self._behaviour = Behaviour(
            on_failure=on_failure,
            on_startup_failure=on_startup_failure,
            retry_after_seconds=retry_after_seconds,
            on_event=on_event,
            development=development,
        )
        self._token = secrets.token_urlsafe() if development else ""
        self._streams = Streams()
        self._pace = Pace()
        self._begun = False
        self.start = Start(app, orchestrator, self._behaviour)

    @property
    def is_open(self) -> bool:
        """Whether requests reach the application."""
        return self.start.state is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As the server calls an application."""
        state = self.start.state
        if state is not None and scope["type"] != "lifespan":
            if scope["path"].endswith(self._own) and await self._answered(scope, receive, send):
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
            self._refuse_routes(scope)
        except ConfigurationError as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        start = self.start
        self._begun = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start.work, tasks, scope)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            farewell = await start.close()
        # A client of tests may start it again.
        self._begun = False
        self.start = Start(self.app, self.orchestrator, self._behaviour)
        if farewell is None:
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await send({"type": "lifespan.shutdown.failed", "message": farewell})

    async def _meet(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request while the gate is closed."""
        if not self._begun:
            self._refuse_routes(scope)
            self._begun = True
            begin(self._work_alone)
        client = (scope.get("client") or ("",))[0]
        if delay := self._pace.delay(client, time.monotonic()):
            await anyio.sleep(delay)
            if self.is_open:
                await self(scope, receive, send)
                return
        if scope["type"] == "websocket":
            await answers.turn_away(scope, receive, send)
        elif self._asks(scope):
            await answers.give(scope, send, 202 if self.start.migrate() else 409, {})
        elif not await self._answered(scope, receive, send):
            await self._tell(scope, receive, send)

    async def _work_alone(self) -> None:
        async with anyio.create_task_group() as tasks:
            await self.start.work(tasks, None)

    def _asks(self, scope: Scope) -> bool:
        """Whether the page's button was pressed, in a browser on this machine.

        No page of somebody else's knows the token, nor may it send such a header.
        """
        given = dict(scope["headers"]).get(answers.MIGRATE, b"")
        return (
            bool(self._token)
            and scope["method"] == "POST"
            and _is_local(scope)
            and secrets.compare_digest(given, self._token.encode())
        )

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request for a path of the gate's own; whether it was one."""
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path not in self._own:
            return False
        if scope["method"] not in ("GET", "HEAD"):
            await answers.refuse_method(send)
        elif path == self._livez:
            await answers.give(scope, send, 200, {"status": "alive"})
        elif self.is_open and not answers.accepts(scope, "text/event-stream"):
            await answers.give(scope, send, 200, {"status": "ready"})
        else:
            await self._tell(scope, receive, send)
        return True

    async def _tell(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say why nobody is let in, and how far it is, as the client understands it."""
        streams = answers.accepts(scope, "text/event-stream") and scope["method"] == "GET"
        if streams and self._streams.have_room:
            await self._streams.give(lambda: self._told(scope), receive, send)
        elif answers.accepts(scope, "text/html"):
            token = self._token if _is_local(scope) else ""
            await answers.give_page(scope, send, self._told(scope), self._readyz, token)
        else:
            await answers.give(scope, send, 503, self._told(scope))

    def _told(self, scope: Scope) -> dict[str, Any]:
        if self.is_open:
            return {"status": "ready"}
        local = (self._details == "local" or bool(self._token)) and _is_local(scope)
        details: Details = "local" if local else "off" if self._details == "off" else "public"
        return self.start.board.told(details, at=datetime.now(UTC))

    def _refuse_routes(self, scope: Scope) -> None:
        # As a middleware it stands before what is no application; Starlette names that.
        for route in getattr(scope.get("app", self.app), "routes", ()):
            path = getattr(route, "path", None)
            if path in self._own:
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
        (scope.get("client") or ("",))[0] in _LOOPBACK
        and host in _LOCAL_NAMES
        and not any(name.startswith(_OF_PROXIES) for name in headers)
    )


def _check(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(
            f"`Gate(…, {name}={value!r})`: it is one of {', '.join(map(repr, allowed))}.",
            setting=name,
        )
