"""How far a run is, as it is told to people."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from orchestrator.events import RevisionStarted, RunFailed, RunStarted
from orchestrator.timeline.progress import Progress

BEGAN = datetime(2026, 12, 1, tzinfo=UTC)


def test_nothing_takes_longer_that_has_ended() -> None:
    """Neither the run that failed nor its revision."""
    run = Progress()
    run.take(
        RunStarted(at=BEGAN, command="run", mode="migrate", target="heads", lock_timeout_seconds=1)
    )
    begun = BEGAN + timedelta(seconds=1)
    run.take(
        RevisionStarted(
            at=begun, task="upgrade", revision="r1", description="", position=1, total=2
        )
    )
    ended = BEGAN + timedelta(seconds=3)
    run.take(RunFailed(at=ended, error="TaskFailed", message="bad", exit_code=1, applied=()))
    told = run.told("local", at=BEGAN + timedelta(hours=1), again=False)
    assert (told["elapsed_seconds"], told["revision_seconds"]) == (3.0, 2.0)
