"""What is written beside the bars of a start's picture, on a terminal and in a file alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from orchestrator.timeline.figures import ready_after, took, waited
from orchestrator.timeline.starts import Row, RowSpan, Start
from orchestrator.timeline.wording import count, duration, printable, short

WIDEST_NAME: Final = 24
KINDS: Final = ("looking", "waiting", "migrating", "ready", "failed", "cancelled", "unfinished")
"""What a row may have, as the legend lists it: kinds of spans, and ends without one."""

_LISTED_REVISIONS: Final = 20
_SHORTEST_NAME: Final = 8
_SHORTEST_DESCRIPTION: Final = 6


class Column(NamedTuple):
    """What stands at the end of each row, below a name."""

    name: str
    cells: list[str]

    @property
    def width(self) -> int:
        """How many characters it needs."""
        return max(map(len, (self.name, *self.cells)))


def heading(start: Start) -> tuple[str, str]:
    """Which start it is, and whose."""
    when = f"{start.began_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"start {short(start.start_id)}  {when}", printable(start.database or "?")


def summary(start: Start) -> tuple[str, str]:
    """What a start came to: how many did what; what is done, and when the last one was ready."""
    roles = [run.role for run in start.runs if run.outcome == "ready"]
    parts = [
        f"{roles.count(role)} {role}"
        for role in ("led", "waited", "found current", "followed")
        if role in roles
    ]
    parts += [
        f"{number} {outcome}"
        for outcome, number in (
            ("failed", start.failed),
            ("cancelled", start.cancelled),
            ("unfinished", start.unfinished),
        )
        if number
    ]
    applied = sum(len(run.applied) for run in start.runs)
    back = all(run.command == "downgrade" for run in start.runs if run.applied)
    did = "taken back" if back else "applied"
    done = f"{count(applied, 'revision')} {did}, " if applied else ""
    whose = "all" if start.ready == len(start.runs) else "the last"
    ready = f"{whose} ready after {ready_after(start.ready_seconds)}"
    if start.ready_seconds is None:
        ready = "none is ready"
    processes = "1 process" if len(start.runs) == 1 else f"{len(start.runs)} processes"
    return f"{processes}: {', '.join(parts)}", f"{done}{ready}"


def names_of(rows: Sequence[Row]) -> list[str]:
    """The process of each row; with its release, where they differ and there is room."""
    several = len({row.release for row in rows}) > 1
    return [_name(row, several) for row in rows]


def columns_of(start: Start, rows: Sequence[Row]) -> list[Column]:
    """How each row ended, and the figures of its run; that of the waits where there are any."""
    runs = {run.run_id: run for run in start.runs}
    how = Column("", [_how(row) for row in rows])
    waits = Column("waited", [waited(runs[row.run_id]) for row in rows])
    times = Column("took", [took(runs[row.run_id]) for row in rows])
    return [how, waits, times] if any(waits.cells) else [how, times]


def numbers_of(rows: Iterable[Row]) -> dict[RowSpan, int]:
    """A number for each revision, and each task without any, in the order in which they ran."""
    worked = [span for row in rows for span in row.spans if span.kind == "migrating"]
    with_revisions = {span.task for span in worked if span.revision}
    named = [span for span in worked if span.revision or span.task not in with_revisions]
    return {span: number for number, span in enumerate(dict.fromkeys(named), start=1)}


def list_of(start: Start, numbers: dict[RowSpan, int]) -> list[tuple[str, str, str]]:
    """The first of what has a number: that, how long it took, its name."""
    lasted = {
        (item.revision, (item.began_at - start.began_at).total_seconds()): item
        for run in start.runs
        for item in run.revisions
    }
    listed = []
    for span, number in list(numbers.items())[:_LISTED_REVISIONS]:
        # A revision's own figure, as every face has it; a task alone has none.
        spent = duration(span.to_seconds - span.from_seconds)
        item = lasted.get((span.revision or "", span.from_seconds))
        if item is not None:
            ended = item.fate != "unknown" or item.duration_seconds
            spent = duration(item.duration_seconds) if ended else "?"
        name = " ".join(filter(None, (span.revision or span.task or "?", span.description)))
        listed.append((str(number), spent, printable(name)))
    return listed


def rest_of(rows: Iterable[Row], numbers: dict[RowSpan, int]) -> str:
    """Where to look for what is not in the list, if anything is."""
    more = len(numbers) - _LISTED_REVISIONS
    if more <= 0:
        return ""
    leader = next(row.run_id for row in rows if any(span in numbers for span in row.spans))
    return f"and {more} more: orchestrator logs show {short(leader)}"


def label(span: RowSpan, number: int | None, room: int, ellipsis: str) -> str:
    """The longest name of a revision (or a task) for which there is room, else nothing."""
    if number is None:
        return ""
    name = _one_cell_each(span.revision or span.task or "?")
    named = f" {number} {name} "
    about = _one_cell_each(span.description)
    if about and len(named) + _SHORTEST_DESCRIPTION <= room:
        whole = f"{named}{about} "
        return whole if len(whole) <= room else f"{whole[: room - 2].rstrip()}{ellipsis} "
    if len(named) > room >= len(f" {number} ") + _SHORTEST_NAME:
        return f"{named[: room - 2]}{ellipsis} "
    candidates = (named, f" {number} ", str(number))
    return next((one for one in candidates if len(one) <= room), "")


def fitted(text: str, width: int, ellipsis: str) -> str:
    """The text in exactly so many cells; of one that is too long, the end, which tells more."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    while cell_len(text) >= width:
        text = text[1:]
    return set_cell_size(ellipsis + text, width)


def cut(text: str, width: int, ellipsis: str) -> str:
    """The text in at most so many cells; of one that is too long, the beginning."""
    return text if cell_len(text) <= width else set_cell_size(text, width - 1) + ellipsis


def kinds_of(rows: Iterable[Row]) -> list[str]:
    """What the legend has to explain: what is there."""
    shown = {kind for row in rows for kind in (row.outcome, *(span.kind for span in row.spans))}
    return [kind for kind in KINDS if kind in shown]


def ticks(length: float, most: int) -> list[tuple[float, str]]:
    """The moments that the axis names, a round number of seconds apart, at most about so many."""
    step = 0.001
    while length / step > most:
        step = next((step * by for by in (2, 5) if length / (step * by) <= most), step * 10)
    decimals = max(0, -math.floor(math.log10(step)))
    marks = range(math.floor(length / step) + 1)
    return [(mark * step, f"{mark * step:.{decimals}f} s") for mark in marks]


def _name(row: Row, with_release: bool) -> str:
    pid = "?" if row.pid is None else row.pid
    name = f"{printable(row.host or '?')}:{pid}"
    both = f"{name} {printable(row.release or '')}"
    return both if with_release and row.release and cell_len(both) <= WIDEST_NAME else name


def _how(row: Row) -> str:
    return row.role or row.outcome if row.outcome == "ready" else row.outcome


def _one_cell_each(text: str) -> str:
    """The text where each character takes one cell, as in the pictures' bars."""
    return "".join(char if cell_len(char) == 1 else "?" for char in printable(text))
