"""A task of the event loop's own, for a server that gives an application none."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast

from anyio.lowlevel import current_token

_running: Final[set[Any]] = set()
"""A loop of asyncio holds its tasks weakly."""


def begin(work: Callable[[], Awaitable[None]]) -> None:
    """Begin this work, which ends with the event loop at the latest."""
    # The token is the loop of asyncio, or a token of trio.
    loop = cast("Any", current_token().native_token)
    if not hasattr(loop, "create_task"):
        sys.modules["trio"].lowlevel.spawn_system_task(work)
        return
    started = loop.create_task(work())
    _running.add(started)
    started.add_done_callback(_running.discard)
