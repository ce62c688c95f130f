"""Placeholder until the live display lands: one plain line an event."""

from __future__ import annotations

from collections.abc import AsyncIterator

from rich.console import Console

from orchestrator.events import NAMES, Event


async def show(events: AsyncIterator[Event], console: Console, *, quiet: bool) -> None:
    async for event in events:
        if not quiet:
            console.print(NAMES[type(event)], getattr(event, "revision", ""))
