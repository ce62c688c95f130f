"""The lifespan of the application behind the gate, which begins when the gate opens."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import anyio

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
"""See the ASGI specification, https://asgi.readthedocs.io/en/latest/specs/lifespan.html."""


_STARTING_SECONDS: Final = 10.0


class StartupFailed(Exception):
    """The application says that it cannot start; the text is its own."""


class Inner:
    """Talks to an application as a server does. `state` is what its lifespan has left there.

    `run` is its task, as long as it lives; it is awaited where it can be cancelled with the server.
    """

    def __init__(self, app: ASGIApp, scope: Scope) -> None:
        self.state: dict[str, Any] = dict(scope.get("state") or {})
        self._app = app
        self._scope = {**scope, "state": self.state}
        self._asked = False
        self._answer: Message | None = None
        self._farewell: Message | None = None
        self._started = anyio.Event()
        self._stopping = anyio.Event()
        self._ended = anyio.Event()
        self._life = anyio.CancelScope()

    async def run(self) -> None:
        """Call the application with its lifespan, to the end of that."""
        try:
            with self._life:
                await self._app(self._scope, self._receive, self._send)
        except Exception as error:  # noqa: BLE001 - an application's
            self._fell(error)
        finally:
            self._started.set()
            self._ended.set()

    async def started(self) -> None:
        """Wait until it has started, or knows no lifespan. Raises `StartupFailed`."""
        await self._started.wait()
        if self._answer is not None and self._answer["type"] == "lifespan.startup.failed":
            raise StartupFailed(self._answer.get("message") or "")

    async def stop(self) -> str | None:
        """Let it shut down, and wait for that; returns what it says of a failure.

        One that is still starting has 10 s to come to an end of that.
        """
        self._stopping.set()
        with anyio.move_on_after(_STARTING_SECONDS):
            await self._started.wait()
        if not self._started.is_set():
            self._life.cancel()
        await self._ended.wait()
        if self._farewell is None or self._farewell["type"] == "lifespan.shutdown.complete":
            return None
        return str(self._farewell.get("message") or "")

    def _fell(self, error: Exception) -> None:
        """What it raised: before any answer, that it knows no lifespan, as the specification says.

        After one it has told already, as far as it can tell; the rest is for the log.
        """
        log = logging.getLogger("orchestrator")
        if self._answer is None:
            log.info("The application has no lifespan: %s", type(error).__name__)
        elif self._answer["type"] == "lifespan.startup.complete" and self._farewell is None:
            log.error("The application's lifespan failed", exc_info=error)

    async def _receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "lifespan.startup"}
        await self._stopping.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: Message) -> None:
        if message["type"].startswith("lifespan.startup."):
            self._answer = message
            self._started.set()
        else:
            self._farewell = message
