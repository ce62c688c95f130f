"""Entries of a journal, and how their values are read without believing them.

Pure and lenient: a journal may be cut short, or written by a newer version, so what an entry
lacks, or has in a wrong type, is None or empty here and never an error. Durations are seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from orchestrator.results import AppliedRevision

OUTCOMES: Final = {
    "database_ready": "ready",
    "run_failed": "failed",
    "run_cancelled": "cancelled",
}
"""The terminal events, and what they make of a run."""

UNFINISHED: Final = "unfinished"
"""The outcome of a run without a terminal event: it still runs, or it was killed."""

HELD_BYTES: Final = 16 * 1024 * 1024
"""How much journal text `stories_of` holds of runs that have not ended, by default."""

_LARGEST_NUMBER: Final = 2.0**53


class Entry(NamedTuple):
    """One line of a journal: decoded, but not yet believed. `size` is its length in bytes."""

    at: datetime
    name: str
    run_id: str
    values: Mapping[str, Any]
    size: int = 0


def stories_of(
    entries: Iterable[Entry], *, held_bytes: int = HELD_BYTES
) -> Iterator[Sequence[Entry]]:
    """The entries of each run, by `sequence`, as soon as the run has ended.

    Those without an end come last, the oldest first. Entries of many runs may be mixed. Where
    those that have not ended are together longer than `held_bytes`, the one that began first
    is let go without an end, so that memory is bounded whatever the journal says. Entries
    that belong to no run are passed over.
    """
    held: dict[str, list[Entry]] = {}
    size = 0
    for entry in entries:
        run_id = entry.run_id
        if not run_id:
            continue
        story = held.get(run_id)
        if story is None:
            held[run_id] = story = []
        story.append(entry)
        size += entry.size
        if entry.name in OUTCOMES:
            del held[run_id]
        elif size > held_bytes:
            story = held.pop(next(iter(held)))
        else:
            continue
        size -= sum([told.size for told in story])
        yield in_order(story)
    for story in held.values():
        yield in_order(story)


def in_order(story: Sequence[Entry]) -> Sequence[Entry]:
    """The entries of one run by their `sequence`, each once; as they are if one has none."""
    previous = -math.inf
    for entry in story:
        sequence = entry.values.get("sequence")
        if type(sequence) is not int:
            return story
        if sequence <= previous:
            return _sorted(story)
        previous = sequence
    return story


def outcome_of(story: Sequence[Entry]) -> str:
    """How the run ended: `ready`, `failed`, `cancelled`, or `unfinished`."""
    return next(
        (OUTCOMES[told.name] for told in reversed(story) if told.name in OUTCOMES), UNFINISHED
    )


def text(values: Mapping[str, Any], key: str) -> str | None:
    """The value if it is a text, else None."""
    value = values.get(key)
    return value if isinstance(value, str) else None


def number(values: Mapping[str, Any], key: str) -> float | None:
    """The value if it is a number that can be reckoned with, else None."""
    value = values.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Also False for what is no number at all, and never turns a huge int into a float.
    return value if abs(value) <= _LARGEST_NUMBER else None


def whole(values: Mapping[str, Any], key: str) -> int | None:
    """The value if it is a whole number that can be reckoned with, else None."""
    value = number(values, key)
    return value if isinstance(value, int) else None


def texts(values: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """The texts in the value, if it is a list, else nothing."""
    value = values.get(key)
    if not isinstance(value, (list, tuple)):
        return ()
    return tuple(item for item in value if isinstance(item, str))


def applied(values: Mapping[str, Any]) -> tuple[AppliedRevision, ...]:
    """What a terminal event lists as durable."""
    value = values.get("applied")
    if not isinstance(value, list):
        return ()
    return tuple(
        AppliedRevision(
            revision=text(item, "revision") or "?",
            description=text(item, "description") or "",
            duration_seconds=number(item, "duration_seconds") or 0.0,
        )
        for item in value
        if isinstance(item, dict)
    )


def _sorted(story: Sequence[Entry]) -> Sequence[Entry]:
    by_sequence: dict[int, Entry] = {}
    for entry in story:
        sequence = entry.values.get("sequence")
        if type(sequence) is not int:
            return story
        by_sequence.setdefault(sequence, entry)
    return [entry for _, entry in sorted(by_sequence.items())]
