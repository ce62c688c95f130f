"""A bound on how long a server may take to answer a small question of our own.

A server whose disk hangs closes nothing and answers nothing, and a driver waits for it without end.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

SECONDS: Final = 15.0
_LOOK_SECONDS: Final = 1.0


class Watchdog:
    """Hangs up on servers that do not answer in time; their drivers then tell a lost connection.

    One thread for all connections, begun with the first question, asleep while there is none.
    """

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self._asked: dict[int, float] = {}
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._begin_anew)

    @contextmanager
    def watching(self, connection: Any) -> Iterator[None]:
        """Hang up if the block, in which a connection of the driver's is used, takes too long."""
        descriptor = connection.fileno()
        with self._lock:
            self._asked[descriptor] = time.monotonic() + self.seconds
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
                self._asked.pop(descriptor, None)

    def _watch(self) -> None:
        while True:
            self._awake.wait()
            time.sleep(min(_LOOK_SECONDS, self.seconds / 2))
            with self._lock:
                if not self._asked:
                    self._awake.clear()
                now = time.monotonic()
                for descriptor in [one for one, until in self._asked.items() if until < now]:
                    _hang_up(descriptor)
                    del self._asked[descriptor]

    def _begin_anew(self) -> None:
        """A forked child has none of the threads, nor anything to do with the questions."""
        self._asked, self._thread = {}, None
        self._lock, self._awake = threading.Lock(), threading.Event()


def _hang_up(descriptor: int) -> None:
    with suppress(OSError):
        wire = socket.socket(fileno=os.dup(descriptor))
        with wire:
            wire.shutdown(socket.SHUT_RDWR)


WATCHDOG: Final = Watchdog()
