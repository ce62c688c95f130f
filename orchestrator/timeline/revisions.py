"""What each revision has cost so far: what to watch at the next deploy. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestrator.timeline.runs import Run


@dataclass(frozen=True, kw_only=True, slots=True)
class RevisionHistory:
    """What the journal knows of one revision in one `direction`: `upgrade` or `downgrade`.

    `applied` counts how often it became durable, `failed` how often it raised.
    """

    revision: str
    description: str
    direction: str
    applied: int
    failed: int
    last_at: datetime
    last_seconds: float | None
    slowest_seconds: float | None
    slowest_run_id: str | None


def revisions_of(runs: Iterable[Run]) -> list[RevisionHistory]:
    """What each revision has cost in these runs, the slowest first."""
    tallies: dict[tuple[str, str], _Tally] = {}
    for run in runs:
        direction = "downgrade" if run.command == "downgrade" else "upgrade"
        for item in run.applied:
            tally = tallies.setdefault((item.revision, direction), _Tally(run.last_at))
            tally.add(run, item.description, item.duration_seconds)
        failure = run.failure
        if failure is not None and failure.revision is not None:
            key = failure.revision, direction
            tallies.setdefault(key, _Tally(run.last_at)).add_failure(run)
    return sorted(
        (tally.history(*key) for key, tally in tallies.items()),
        key=lambda item: (-(item.slowest_seconds or 0.0), item.revision, item.direction),
    )


@dataclass(slots=True)
class _Tally:
    last_at: datetime
    description: str = ""
    applied: int = 0
    failed: int = 0
    last_applied_at: datetime | None = None
    last_seconds: float | None = None
    slowest_seconds: float | None = None
    slowest_run_id: str | None = None

    def add(self, run: Run, description: str, seconds: float) -> None:
        self.applied += 1
        self.last_at = max(self.last_at, run.last_at)
        if self.last_applied_at is None or run.last_at >= self.last_applied_at:
            self.last_applied_at = run.last_at
            self.last_seconds = seconds
            self.description = description or self.description
        if self.slowest_seconds is None or seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest_run_id = seconds, run.run_id

    def add_failure(self, run: Run) -> None:
        self.failed += 1
        self.last_at = max(self.last_at, run.last_at)
        begun = {item.revision: item.description for item in run.revisions}
        failure = run.failure
        if failure is not None and failure.revision is not None:
            self.description = self.description or begun.get(failure.revision, "")

    def history(self, revision: str, direction: str) -> RevisionHistory:
        return RevisionHistory(
            revision=revision,
            description=self.description,
            direction=direction,
            applied=self.applied,
            failed=self.failed,
            last_at=self.last_at,
            last_seconds=self.last_seconds,
            slowest_seconds=self.slowest_seconds,
            slowest_run_id=self.slowest_run_id,
        )
