"""A lock's session, for as long as the lock is held."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

_PING_SECONDS: Final = 2.0


class Keeper:
    """Keeps the session of a lock that is held alive, and notices when it has ended.

    `ping` sends something and raises where nobody is there; `is_silent` says whether nothing comes
    for so many seconds, as what comes unasked is a farewell; `lost` is told in words.
    """

    def __init__(
        self,
        ping: Callable[[], object],
        is_silent: Callable[[float], bool],
        lost: Callable[[str], object],
    ) -> None:
        self._ping = ping
        self._is_silent = is_silent
        self._lost = lost
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._keep, name="orchestrator-server-lock", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End; what is noticed afterwards is nobody's concern."""
        self._stopped.set()

    def _keep(self) -> None:
        began = time.monotonic()
        try:
            while not self._stopped.is_set():
                silent = self._is_silent(_PING_SECONDS / 10)
                if silent and time.monotonic() - began < _PING_SECONDS:
                    continue
                began = time.monotonic()
                if not self._stopped.is_set():
                    self._ping()
        except Exception as error:  # noqa: BLE001 - whatever it is, the session is of no use
            if not self._stopped.is_set():
                text = " ".join(str(error).split()).rstrip(".")
                self._lost(
                    f"The server lock was lost while this run works: {text}. The work goes on if "
                    "its own connection is still there, and keeps all others out for as long as "
                    "that lasts."
                )
