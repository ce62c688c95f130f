"""The figures of runs and starts: every face that shows one has it from here.

Pure. `waited` is how long a run waited for all locks together, `took` how long it lasted, and
`ready after` how long it took until the last run of a start was ready. Durations are seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from orchestrator.timeline.entries import number
from orchestrator.timeline.runs import Run
from orchestrator.timeline.wording import duration


def figure(end: Mapping[str, Any], key: str, reckoned: float) -> float:
    """What the last event of a run says of it, as its report does.

    `reckoned` is what its other events come to: for a run without an end, or of an older
    version.
    """
    seconds = number(end, key)
    return max(0.0, reckoned if seconds is None else seconds)


def ended_seconds(run: Run, since: datetime) -> float:
    """How long after a moment a run ended."""
    return (run.began_at - since).total_seconds() + run.duration_seconds


def waited(run: Run) -> str:
    """How long it waited, for people; empty where it did not."""
    return duration(run.waited_seconds) if run.waits else ""


def took(run: Run) -> str:
    """How long it lasted, for people; of one without an end, how long it is known to have."""
    at_least = "> " if run.outcome == "unfinished" else ""
    return f"{at_least}{duration(run.duration_seconds)}"


def ready_after(ready_seconds: float | None) -> str:
    """How long it took until the last one was ready, for people."""
    return "never" if ready_seconds is None else duration(ready_seconds)
