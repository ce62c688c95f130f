"""A bound on how long a server may take to answer a small question of our own.

One that waits for a table that somebody has locked is taken back; a server whose disk hangs closes
nothing and answers nothing, and a driver would wait for it without end.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

_LOOK_SECONDS: Final = 0.5


@dataclass(slots=True)
class _Question:
    """What is asked since when (of the monotonic clock), on a connection of the driver's."""

    connection: Any
    descriptor: int
    since: float
    taken_back: bool = False


class Watchdog:
    """Takes back what is not answered within `seconds`, and hangs up after `lost_seconds`.

    One thread for all connections, begun with the first question, asleep while there is none.
    """

    def __init__(self, seconds: float = 8.0, lost_seconds: float = 15.0) -> None:
        self.seconds = seconds
        self.lost_seconds = lost_seconds
        self._asked: dict[int, _Question] = {}
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._awake = threading.Event()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    @contextmanager
    def watching(self, connection: Any) -> Iterator[None]:
        """Bound the block, in which a connection of the driver's waits for an answer."""
        question = _Question(connection, connection.fileno(), time.monotonic())
        with self._lock:
            self._asked[id(question)] = question
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._watch, name="orchestrator-watchdog", daemon=True
                )
                self._thread.start()
        self._awake.set()
        try:
            yield
        finally:
            with self._lock:
                self._asked.pop(id(question), None)

    def _watch(self) -> None:
        while True:
            self._awake.wait()
            time.sleep(min(_LOOK_SECONDS, self.seconds / 2, self.lost_seconds / 2))
            with self._lock:
                if not self._asked:
                    self._awake.clear()
                for question in list(self._asked.values()):
                    self._look(question)

    def _look(self, question: _Question) -> None:
        waited = time.monotonic() - question.since
        if waited > self.lost_seconds:
            _hang_up(question.descriptor)
            del self._asked[id(question)]
        elif waited > self.seconds and not question.taken_back:
            question.taken_back = True
            # By a connection of its own, which a server that hangs does not close either.
            threading.Thread(target=_take_back, args=(question.connection,), daemon=True).start()

    def _begin_anew(self) -> None:
        """In a forked child, which has none of the threads, nor anything to do with these."""
        self._asked, self._thread = {}, None
        self._lock, self._awake = threading.Lock(), threading.Event()


def _take_back(connection: Any) -> None:
    with suppress(Exception):
        connection.cancel()


def _hang_up(descriptor: int) -> None:
    with suppress(OSError):
        wire = socket.socket(fileno=os.dup(descriptor))
        with wire:
            wire.shutdown(socket.SHUT_RDWR)


WATCHDOG: Final = Watchdog()
