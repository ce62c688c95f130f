"""Ordered delivery of a run's events: to sinks at once, to subscribers as streams."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import anyio
from anyio.lowlevel import current_token

from orchestrator.errors import ConfigurationError
from orchestrator.events import NAMES, TERMINAL, Event

Sink = Callable[[Event], None]


class Broadcast:
    """Stamps events with run id, sequence and time, and hands them on in that order.

    `emit` may be called in any thread of the process that made this; it waits for sinks, and
    for no subscriber. Sinks are called one after the other and miss nothing, in the thread that
    emits; an event that comes meanwhile from another thread is handed on by the same. A sink that
    raises anything, but for an interrupt of the main thread, is logged and left out from then on.
    A subscriber gets every event from the first to the terminal one, whenever it comes.
    """

    def __init__(self, run_id: str, sinks: Sequence[Sink] = ()) -> None:
        self.run_id = run_id
        self.history: list[Event] = []
        self.closed = False
        self._sinks = list(sinks)
        self._pid = os.getpid()
        # Never held while a sink or a subscriber runs: a sink may wait for the event loop.
        self._lock = threading.Lock()
        self._emitted: deque[Event] = deque()
        self._delivering = False
        self._arrival: _Arrival | None = None

    def add(self, sink: Sink) -> None:
        """Call this sink, too, for all events from now on."""
        self._sinks.append(sink)

    def close(self) -> None:
        """Let subscribers end, also where no terminal event has come or ever will."""
        self.closed = True
        self._wake()

    def emit(self, event: Event, *, at: datetime | None = None) -> Event:
        """Stamp the event and deliver it. Nothing may follow a terminal event.

        `at` is when it happened, by default now.

        Raises `ConfigurationError` in a forked child, where neither the loop nor the journal is.
        """
        if os.getpid() != self._pid:
            raise _forked()
        with self._lock:
            last = self._emitted or self.history
            if last and isinstance(last[-1], TERMINAL):
                raise RuntimeError(f"{NAMES[type(event)]} was emitted after the end of the run")
            event = replace(
                event,
                run_id=self.run_id,
                sequence=len(self.history) + len(self._emitted),
                at=at or datetime.now(UTC),
            )
            self._emitted.append(event)
            if self._delivering:
                # Not waited for: it may be the loop that emits, and a sink that waits for the loop.
                return event
            self._delivering = True
        try:
            interrupt = self._deliver()
        except BaseException:
            # An interrupt between two lines; the next event brings the rest with it.
            self._delivering = False
            raise
        if interrupt is not None:
            raise interrupt
        return event

    def events(self) -> AsyncIterator[Event]:
        """Every event of the run, from the first to the terminal one."""
        return _Subscription(self)

    def next_arrival(self) -> _Arrival:
        """Set by the next event; taken before looking, so that none comes unnoticed."""
        with self._lock:
            self._arrival = self._arrival or _Arrival()
            return self._arrival

    def _deliver(self) -> BaseException | None:
        """Hand on what was emitted, until nothing is left; returns an interrupt of it."""
        interrupt: BaseException | None = None
        while True:
            with self._lock:
                if not self._emitted:
                    self._delivering = False
                    return interrupt
                event = self._emitted[0]
            for sink in tuple(self._sinks):
                try:
                    sink(event)
                except BaseException as error:  # noqa: BLE001 - it is somebody else's code
                    if _is_interrupt(error):
                        interrupt = error
                    else:
                        self._sinks.remove(sink)
                        _say_left_out(error)
            with self._lock:
                self.history.append(self._emitted.popleft())
            self._wake()

    def _wake(self) -> None:
        with self._lock:
            arrival, self._arrival = self._arrival, None
        if arrival is not None:
            arrival.set()


class _Arrival:
    """What subscribers wait for in their loop; who sets it waits for no loop, in any thread."""

    def __init__(self) -> None:
        self._event = anyio.Event()
        # anyio's own ways into a loop wait for its answer. The token is the loop of asyncio, or
        # the token of trio.
        token = cast("Any", current_token().native_token)
        self._soon = getattr(token, "call_soon_threadsafe", None) or token.run_sync_soon

    async def wait(self) -> None:
        """Return when the next event has come."""
        await self._event.wait()

    def set(self) -> None:
        """Let those who wait go on."""
        with suppress(RuntimeError):  # the loop has ended, and with it whoever waited
            self._soon(self._event.set)


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


def _is_interrupt(error: BaseException) -> bool:
    """Whether it is Ctrl-C that was raised, wherever the main thread was, and not a fault."""
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)


def _say_left_out(error: BaseException) -> None:
    # It may be the logging itself that fails. Nor is the logger made before it is needed: see
    # `run/log.py`.
    with suppress(BaseException):
        logging.getLogger("orchestrator").error(
            "A sink of orchestrator's events failed and is left out", exc_info=error
        )


def _forked() -> ConfigurationError:
    return ConfigurationError(
        "env.py migrates in a forked child process, where the migration can be neither watched "
        "nor proved. Nothing was migrated there. Call context.run_migrations() in the process "
        "that runs env.py; a thread of it will do.",
        setting="script_location",
        scripts_failed=True,
    )
