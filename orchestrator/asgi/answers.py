"""What the gate answers by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.asgi import page
from orchestrator.asgi.inner import Message, Receive, Scope, Send

_RETRY_AFTER: Final = (b"retry-after", b"5")
"""Seconds, for a client of whom nothing is known, about work of which nobody knows the end."""
_UNAVAILABLE: Final = 503
_NOT_STORED: Final = (b"cache-control", b"no-store")
MIGRATE: Final = b"x-orchestrator-migrate"
"""The header of a request for what is offered in development; its value is the page's token."""
_TRY_AGAIN_LATER: Final = 1013
"""Of a WebSocket that is closed: https://www.iana.org/assignments/websocket."""


def accepts(scope: Scope, kind: str) -> bool:
    """Whether the client says by name that it understands this."""
    return any(name == b"accept" and kind.encode() in value for name, value in scope["headers"])


async def give(scope: Scope, send: Send, status: int, values: Mapping[str, Any]) -> None:
    """Answer a request with JSON; one that may only look with its head."""
    await _give(scope, send, status, b"application/json", json.dumps(values).encode())


async def give_page(
    scope: Scope, send: Send, values: Mapping[str, Any], endpoint: str | None, token: str
) -> None:
    """Answer a browser with the page, which goes on by itself where it may run a script.

    With the `token`, it may ask for what is offered.
    """
    where = "" if endpoint is None else scope.get("root_path", "") + endpoint
    body = page.of(values, where, token)
    await _give(scope, send, 503, b"text/html; charset=utf-8", body, page.HEADERS)


async def refuse_method(send: Send) -> None:
    """Answer a request that is neither GET nor HEAD, where only these make sense."""
    headers = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 405, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def turn_away(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a WebSocket: by HTTP where the server can do it, else by a close that says why."""
    await receive()  # its `websocket.connect`
    if "websocket.http.response" in (scope.get("extensions") or {}):
        start: Message = {
            "type": "websocket.http.response.start",
            "status": 503,
            "headers": [_RETRY_AFTER, (b"content-length", b"0")],
        }
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b""})
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": "Try again later"})


async def _give(
    scope: Scope,
    send: Send,
    status: int,
    kind: bytes,
    body: bytes,
    more: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    headers = [
        (b"content-type", kind),
        (b"content-length", str(len(body)).encode()),
        _NOT_STORED,
        *more,
    ]
    if status >= _UNAVAILABLE:
        headers.append(_RETRY_AFTER)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
