"""Server-sent events for the page: how far the work is, while somebody looks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import anyio

from orchestrator.asgi.inner import Receive, Send

_MOST: Final = 100
"""Streams at a time: whoever comes later asks again and again instead."""
_LASTS_SECONDS: Final = 15.0
"""A server that shuts down waits for open responses; the browser takes it up again."""
_EVERY_SECONDS: Final = 0.5
_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold it back
]


class Streams:
    """Those of one process; each ends by itself."""

    def __init__(self) -> None:
        self._open = 0

    @property
    def have_room(self) -> bool:
        """Whether one more may be opened."""
        return self._open < _MOST

    async def give(
        self, told: Callable[[], Mapping[str, Any]], receive: Receive, send: Send
    ) -> None:
        """Send what is `told` whenever it changes, until the client leaves or the gate opens."""
        self._open += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
                with anyio.move_on_after(_LASTS_SECONDS + _EVERY_SECONDS):  # who does not read it
                    await _send_all(told, send)
                tasks.cancel_scope.cancel()
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._open -= 1


async def _send_all(told: Callable[[], Mapping[str, Any]], send: Send) -> None:
    until = time.monotonic() + _LASTS_SECONDS
    before: Mapping[str, Any] | None = None
    while time.monotonic() < until:
        values = told()
        if values != before:
            before = values
            data = f"retry: 1000\ndata: {json.dumps(values)}\n\n".encode()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if values["status"] == "ready":
            return
        await anyio.sleep(_EVERY_SECONDS)


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
