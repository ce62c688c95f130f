"""Which runs are wanted. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.timeline.entries import Entry, outcome_of, text
from orchestrator.timeline.story import run_of


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Which runs are wanted; what is None does not matter.

    `since` and `until` are about the moment at which the run began, and both include it.
    `database` is a part of the redacted URL.
    """

    since: datetime | None = None
    until: datetime | None = None
    outcome: str | None = None
    led: bool = False
    host: str | None = None
    database: str | None = None

    def matches(self, story: Sequence[Entry]) -> bool:
        """Whether the run of these entries is wanted; what costs most to know is asked last."""
        first = story[0]
        return (
            (self.since is None or first.at >= self.since)
            and (self.until is None or first.at <= self.until)
            and (self.outcome is None or outcome_of(story) == self.outcome)
            and (self.host is None or text(first.values, "host") == self.host)
            and (self.database is None or self.database in (text(first.values, "database") or ""))
            and (not self.led or run_of(story).role == "led")
        )
