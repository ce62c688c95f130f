"""What the gate answers by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.asgi.inner import Message, Scope, Send

_POLICY = "Try again later"
_TRY_AGAIN_LATER = 1013
"""Of a WebSocket that is closed: https://www.iana.org/assignments/websocket."""


async def answer(
    scope: Scope,
    send: Send,
    status: int,
    values: Mapping[str, Any],
    *,
    retry_after_seconds: int | None = None,
) -> None:
    """Answer a request with JSON; one that may only look with its head."""
    body = json.dumps(values).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    if retry_after_seconds is not None:
        headers.append((b"retry-after", str(retry_after_seconds).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def refuse_method(send: Send) -> None:
    """Answer a request that is neither GET nor HEAD, where only these make sense."""
    headers = [(b"allow", b"GET, HEAD"), (b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 405, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def turn_away(scope: Scope, receive: Any, send: Send, *, retry_after_seconds: int) -> None:
    """Answer a WebSocket: by HTTP where the server can do it, else by a close that says why."""
    await receive()  # its `websocket.connect`
    if "websocket.http.response" in (scope.get("extensions") or {}):
        headers = [(b"retry-after", str(retry_after_seconds).encode()), (b"content-length", b"0")]
        start: Message = {
            "type": "websocket.http.response.start",
            "status": 503,
            "headers": headers,
        }
        await send(start)
        await send({"type": "websocket.http.response.body", "body": b""})
        return
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": _TRY_AGAIN_LATER, "reason": _POLICY})
