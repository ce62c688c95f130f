"""Ordered delivery of a run's events: to sinks at once, to subscribers as streams."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import anyio
from anyio.from_thread import BlockingPortal

from orchestrator.events import NAMES, TERMINAL, Event

Sink = Callable[[Event], None]


class Broadcast:
    """Stamps events with run id, sequence and time, and hands them on in that order.

    `emit` may be called from the event loop's thread and, while the portal is open, from a
    worker thread; it never waits for a subscriber. Sinks are called in the emitting thread,
    one after the other, and miss nothing; a sink that raises is logged and left out from then
    on. A subscriber gets every event from the first to the terminal one, whenever it comes.
    """

    def __init__(self, run_id: str, sinks: Sequence[Sink] = ()) -> None:
        self.run_id = run_id
        self.history: list[Event] = []
        self.closed = False
        self._sinks = list(sinks)
        self._emitting = threading.Lock()
        self._arrival: anyio.Event | None = None
        self._portal: BlockingPortal | None = None
        self._loop_thread = threading.get_ident()

    @property
    def ended(self) -> bool:
        """Whether the terminal event has been emitted."""
        return bool(self.history) and isinstance(self.history[-1], TERMINAL)

    def add(self, sink: Sink) -> None:
        """Call this sink, too, for all events from now on."""
        self._sinks.append(sink)

    def attach(self, portal: BlockingPortal | None) -> None:
        """Name the way from worker threads into this thread's loop, where subscribers wait."""
        self._portal = portal
        self._loop_thread = threading.get_ident()

    def close(self) -> None:
        """Let subscribers end, also where no terminal event has come or ever will."""
        self.closed = True
        self._wake()

    def emit(self, event: Event) -> Event:
        """Stamp the event and deliver it. Nothing may follow a terminal event."""
        with self._emitting:
            if self.ended:
                raise RuntimeError(f"{NAMES[type(event)]} was emitted after the end of the run")
            event = replace(
                event, run_id=self.run_id, sequence=len(self.history), at=datetime.now(UTC)
            )
            for sink in tuple(self._sinks):
                try:
                    sink(event)
                except Exception as error:  # noqa: BLE001 - it is somebody else's code
                    self._sinks.remove(sink)
                    _say_left_out(error)
            self.history.append(event)
        self._wake()
        return event

    def events(self) -> AsyncIterator[Event]:
        """Every event of the run, from the first to the terminal one."""
        return _Subscription(self)

    def next_arrival(self) -> anyio.Event:
        """Set by the next event; taken before looking, so that none comes unnoticed."""
        with self._emitting:
            self._arrival = self._arrival or anyio.Event()
            return self._arrival

    def _wake(self) -> None:
        with self._emitting:
            arrival, self._arrival = self._arrival, None
        if arrival is None:
            return
        if self._portal is None or threading.get_ident() == self._loop_thread:
            arrival.set()
        else:
            self._portal.start_task_soon(arrival.set)


class _Subscription:
    """One subscriber's way through the events.

    Not an asynchronous generator: whoever breaks out of a loop over one has to close it.
    """

    def __init__(self, broadcast: Broadcast) -> None:
        self._broadcast = broadcast
        self._position = 0
        self._ended = False

    def __aiter__(self) -> _Subscription:
        return self

    async def __anext__(self) -> Event:
        if self._ended:
            raise StopAsyncIteration
        while True:
            arrival = self._broadcast.next_arrival()
            if self._position < len(self._broadcast.history):
                break
            if self._broadcast.closed:
                raise StopAsyncIteration
            await arrival.wait()
        event = self._broadcast.history[self._position]
        self._position += 1
        self._ended = isinstance(event, TERMINAL)
        return event


def _say_left_out(error: Exception) -> None:
    # It may be the logging itself that fails. Nor is the logger made before it is needed: see
    # `run/log.py`.
    with suppress(Exception):
        logging.getLogger("orchestrator").error(
            "A sink of orchestrator's events failed and is left out", exc_info=error
        )
