"""Slows down who asks more than a person, a page or a probe does, while the process migrates.

What answers and what migrates share one interpreter: each answer is taken from the migration.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

_A_SECOND: Final = 20.0
"""Answers that a client may have, whatever they are; a page and its stream take one or two."""
_AT_ONCE: Final = 40.0
"""Of which so many may come at once: an office behind one address opens the page."""
_LONGEST_SECONDS: Final = 0.5
"""Half of what a liveness probe waits by default, which may come from the same address."""
_MOST_CLIENTS: Final = 1000


class Pace:
    """How long each client has to wait for its next answer; those asked last are remembered."""

    def __init__(self) -> None:
        self._until: OrderedDict[str, float] = OrderedDict()

    def delay(self, client: str, now: float) -> float:
        """Seconds by which the answer to a request of this address is put off."""
        earliest = now - _AT_ONCE / _A_SECOND
        until = max(self._until.pop(client, earliest), earliest) + 1 / _A_SECOND
        until = min(until, now + _LONGEST_SECONDS)
        self._until[client] = until
        while len(self._until) > _MOST_CLIENTS:
            self._until.popitem(last=False)
        return max(0.0, until - now)
