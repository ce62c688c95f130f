"""Hands events to a callable of the application's, which can stop nothing."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Callable
from typing import Final

import anyio

from orchestrator.events import Event

_LIMIT_SECONDS: Final = 10.0

Listener = Callable[[Event], object]
"""Plain, or asynchronous. A plain one is called in the event loop, and must not take long."""


async def tell(events: AsyncIterator[Event], listener: Listener) -> None:
    """Call it with each event, one after the other; after an error or 10 s no more."""
    async for event in events:
        fault: object = f"took longer than {_LIMIT_SECONDS:g} s"
        with anyio.move_on_after(_LIMIT_SECONDS):
            try:
                answer = listener(event)
                if inspect.isawaitable(answer):
                    await answer
                continue
            except Exception as error:  # noqa: BLE001 - it is somebody else's code
                fault = f"raised {type(error).__name__}: {error}"
        logging.getLogger("orchestrator").error("`on_event` %s; it gets no more events", fault)
        return
