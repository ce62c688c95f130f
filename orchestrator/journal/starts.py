"""Finds starts in journals without holding many more runs than those starts have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import BinaryIO, Final

from orchestrator.journal.reader import Tail, Tally, all_entries, all_runs, tail
from orchestrator.timeline.entries import Entry, stories_of, text
from orchestrator.timeline.filter import Filter
from orchestrator.timeline.runs import Run
from orchestrator.timeline.starts import LATE_SECONDS, Start, starts_of
from orchestrator.timeline.story import run_of

_RUNS_A_START: Final = 8
_AROUND_SECONDS: Final = 600.0
_WIDER: Final = 4


def last_starts(files: Sequence[BinaryIO], count: int, tally: Tally) -> list[Start]:
    """The last `count` starts by their beginning.

    Files are read from their end, as far as each of these starts needs to have all its runs.
    """
    runs = count * _RUNS_A_START
    while True:
        met = Tally()
        tails = [tail(file, runs, met) for file in files]
        starts = starts_of(_distinct(run for end in tails for run in end.runs))[-count:]
        if all(end.whole or _holds_all(end, starts, count) for end in tails):
            tally.unreadable_lines += met.unreadable_lines
            return starts
        runs *= _WIDER


def wanted_starts(
    files: Sequence[BinaryIO], count: int, tally: Tally, wanted: Filter
) -> list[Start]:
    """The last `count` starts that the wanted runs form, in one pass that holds these runs."""
    return starts_of(_distinct(all_runs(files, tally, wanted)))[-count:]


def start_of(files: Sequence[BinaryIO], run: Run, tally: Tally) -> Start:
    """The start that this run is part of.

    Every overlapping run is found, however long the chain is: as long as the start reaches
    the edge of what was looked at, the files are read again with a wider view.
    """
    since, until = run.began_at.timestamp(), run.last_at.timestamp()
    around = _AROUND_SECONDS
    while True:
        met = Tally()
        earliest, latest = since - around, until + around
        stories = stories_of(all_entries(files, met))
        near = (run_of(told) for told in stories if _touches(told, run, earliest, latest))
        start = _that_has(run, starts_of(_distinct((run, *near))))
        since, until = start.began_at.timestamp(), start.last_at.timestamp()
        if earliest < since - LATE_SECONDS and until + LATE_SECONDS < latest:
            tally.unreadable_lines += met.unreadable_lines
            return start
        around *= _WIDER


def _holds_all(end: Tail, starts: Sequence[Start], count: int) -> bool:
    """Whether nothing before this end of a journal can belong to one of these starts."""
    if len(starts) < count:
        return False

    def is_before(at: datetime) -> bool:
        return (starts[0].began_at - at).total_seconds() > LATE_SECONDS

    return all(is_before(run.last_at) for run in end.cut) and any(
        is_before(run.began_at) for run in end.runs
    )


def _touches(story: Sequence[Entry], run: Run, earliest: float, latest: float) -> bool:
    return (
        text(story[0].values, "database") == run.database
        and story[-1].at.timestamp() >= earliest
        and story[0].at.timestamp() <= latest
    )


def _that_has(run: Run, starts: Iterable[Start]) -> Start:
    return next(start for start in starts if any(one.run_id == run.run_id for one in start.runs))


def _distinct(runs: Iterable[Run]) -> Iterator[Run]:
    """Each run once: a journal may be given, or collected, twice."""
    seen: set[str] = set()
    for run in runs:
        if run.run_id not in seen:
            seen.add(run.run_id)
            yield run
