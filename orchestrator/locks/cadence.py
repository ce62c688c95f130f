"""How often somebody who waits says so."""

from __future__ import annotations

from typing import Final

_SHORTEST_SILENCE_SECONDS: Final = 1.0
_LONGEST_SILENCE_SECONDS: Final = 30.0


class Cadence:
    """When a wait is told of: after `first_seconds`, then ever more seldom, at least every 30 s."""

    def __init__(self, first_seconds: float = 0.0) -> None:
        self._next_seconds = first_seconds

    def is_due(self, waited_seconds: float) -> bool:
        """Whether the time for a word has come."""
        return waited_seconds >= self._next_seconds

    def told(self, waited_seconds: float) -> None:
        """A word was said: the next one comes after as long again."""
        silence = max(_SHORTEST_SILENCE_SECONDS, waited_seconds)
        self._next_seconds = waited_seconds + min(silence, _LONGEST_SILENCE_SECONDS)
