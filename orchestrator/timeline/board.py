"""The runs on a database, whichever process of this host has them: all tell the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Final

from orchestrator.events import Event, from_dict
from orchestrator.timeline.progress import Details, Progress

_MOST: Final = 1000


class Board:
    """What is known of each run: of this process's own by its events, of others by the journal.

    Each event counts once, also where it comes both ways. `own` is the run of this process,
    and `again` says whether one that fails is tried again.
    """

    def __init__(self, *, again: bool = False) -> None:
        self.own = Progress()
        self._again = again
        self._runs: dict[str, Progress] = {}
        self._seen: dict[str, int] = {}
        self._latest: str | None = None

    def begin(self) -> None:
        """A run of this process begins."""
        self.own = Progress()

    def take_own(self, event: Event) -> None:
        """Go on by one event of this process's run."""
        self._runs[event.run_id] = self.own
        self._take(event)

    def take_entry(self, values: Mapping[str, Any]) -> None:
        """Go on by one line of a journal; one that is no event of ours is passed over."""
        try:
            event = from_dict(values)
        except (ValueError, TypeError, KeyError):
            return
        with suppress(TypeError, ValueError, AttributeError):  # what no release of ours has written
            self._take(event)

    def told(self, details: Details, *, at: datetime) -> dict[str, Any]:
        """What may be told; of who waits, what is known of the run that it waits for."""
        told = self.own.told(details, at=at, again=self._again)
        holder = self.own.holder
        if details == "off" or self.own.phase not in ("waiting", "failed") or holder is None:
            leads = self._told_by(self.own)
        else:
            leads = holder.run_id
            leader = self._runs.get(leads)
            shown = "failed" if self.own.phase == "failed" else "migrating"
            if leader is not None and leader.phase == shown:
                told = {
                    **leader.told(details, at=at, again=self._again),
                    **{name: told[name] for name in _OWN if name in told},
                }
        if details != "off" and leads is not None:
            told["waiting"] = self.waiting_for(leads)
        return told

    def run(self, run_id: str) -> Progress | None:
        """What is known of a run."""
        return self._runs.get(run_id)

    @property
    def latest(self) -> Progress | None:
        """The run that was heard of last."""
        return self._runs[self._latest] if self._latest is not None else None

    def _told_by(self, wanted: Progress) -> str | None:
        return next((run_id for run_id, run in self._runs.items() if run is wanted), None)

    def waiting_for(self, run_id: str) -> int:
        """How many runs wait for that one."""
        return sum(
            run.phase == "waiting" and run.holder is not None and run.holder.run_id == run_id
            for run in self._runs.values()
        )

    def _take(self, event: Event) -> None:
        run_id = event.run_id
        if event.sequence <= self._seen.get(run_id, -1):
            return
        self._seen[run_id] = event.sequence
        self._runs.setdefault(run_id, Progress()).take(event)
        self._latest = run_id
        while len(self._runs) > _MOST:
            oldest = next(iter(self._runs))
            del self._runs[oldest], self._seen[oldest]


_OWN: Final = ("leader", "waiting_for")
"""What who waits knows better than the journal."""
