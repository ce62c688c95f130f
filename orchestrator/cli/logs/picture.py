"""The picture of a start: one row a process, time from left to right.

Every kind of span has a character of its own, so that it reads without colour too.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from orchestrator.timeline.starts import Row, RowSpan, Start, length_of, rows_of
from orchestrator.timeline.wording import duration, printable, short

_NARROWEST_BAR: Final = 16
_WIDEST_NAME: Final = 24
_CELLS_A_TICK: Final = 11
_LISTED_REVISIONS: Final = 20
_SHORTEST_DESCRIPTION: Final = 6
_AFTERWARDS: Final = 0.06
"""How much of the picture shows what comes after the last run was ready."""


@dataclass(frozen=True, slots=True)
class _Glyphs:
    looking: str
    waiting: str
    migrating: tuple[str, str]  # one revision, the next, and so on in turn
    ready: str
    failed: str
    cancelled: str
    unfinished: str
    axis: str
    tick: str
    ellipsis: str


_FINE: Final = _Glyphs("·", "╌", ("█", "▓"), "━", "✗", "!", "?", "─", "┬", "…")
_ASCII: Final = _Glyphs(".", "-", ("#", "%"), "=", "x", "!", "?", "-", "+", "~")

_STYLES: Final = {
    "looking": "bright_black",
    "waiting": "yellow",
    "migrating": "blue on blue",  # without gaps, however the font draws a block
    "migrating next": "cyan on cyan",
    "ready": "green",
    "failed": "bold red",
    "cancelled": "bold magenta",
    "unfinished": "bold magenta",
}
_LABEL_STYLES: Final = {"migrating": "bold white on blue", "migrating next": "bold black on cyan"}


def picture(start: Start, width: int, *, ascii_only: bool = False) -> list[Text]:
    """The lines of the picture, its bars as wide as `width` cells allow."""
    rows = rows_of(start)
    glyphs = _ASCII if ascii_only else _FINE
    names = [_name(row, rows) for row in rows]
    ends = [f" {_end(row)}" for row in rows]
    names_width = min(max(map(cell_len, names)), _WIDEST_NAME, width // 3) + 1
    ends_width = max(map(cell_len, ends))
    bar = _Bar(max(_NARROWEST_BAR, width - names_width - ends_width), length_of(start), glyphs)
    numbers = _numbers(rows)
    lines = [*_heading(start, width, glyphs), Text(), *bar.axis(names_width)]
    for row, name, end in zip(rows, names, ends, strict=True):
        line = Text(_fitted(name, names_width - 1, glyphs.ellipsis) + " ")
        line.append_text(bar.row(row, numbers))
        line.append(end, style=_STYLES.get(row.outcome, ""))
        lines.append(line)
    return [*lines, *_list_of(rows, numbers, width, glyphs), Text(), _legend(rows, glyphs)]


class _Bar:
    """Draws on a scale of `length` seconds in `width` cells."""

    def __init__(self, width: int, length: float, glyphs: _Glyphs) -> None:
        self._width = width
        self._length = max(length, 0.001) * (1 + _AFTERWARDS)
        self._glyphs = glyphs

    def axis(self, indent: int) -> list[Text]:
        step = _tick_step(self._length, max(1, self._width // _CELLS_A_TICK))
        labels, rule = [" "] * self._width, [self._glyphs.axis] * self._width
        tick = 0
        while (cell := self._cell(tick * step)) < self._width:
            label = _tick_label(tick * step, step)
            rule[cell] = self._glyphs.tick
            if cell + len(label) <= self._width:
                labels[cell : cell + len(label)] = label
            tick += 1
        return [
            Text(" " * indent + "".join(labels).rstrip(), style="bright_black"),
            Text(" " * indent + "".join(rule), style="bright_black"),
        ]

    def row(self, row: Row, numbers: dict[RowSpan, int]) -> Text:
        cells = [(" ", "")] * self._width
        for span in row.spans:
            since, until = self._cell(span.from_seconds), self._cell(span.to_seconds)
            if span.kind == "ready":
                until = self._width  # and so it stays
            if span in numbers:
                until = max(until, since + 1)  # no revision is too short to be seen
            drawn = self._drawn(span, numbers.get(span), min(until, self._width) - since)
            cells[since : since + len(drawn)] = drawn
        if row.outcome != "ready":
            mark = getattr(self._glyphs, row.outcome)
            cells[min(self._cell(row.ended_seconds), self._width - 1)] = mark, _STYLES[row.outcome]
        text = Text()
        for style, alike in itertools.groupby(cells, key=lambda cell: cell[1]):
            text.append("".join(char for char, _ in alike), style=style)
        return text

    def _cell(self, seconds: float) -> int:
        return max(0, min(self._width, round(seconds / self._length * self._width)))

    def _drawn(self, span: RowSpan, number: int | None, width: int) -> list[tuple[str, str]]:
        if span.kind != "migrating":
            return [(getattr(self._glyphs, span.kind), _STYLES[span.kind])] * width
        turn = 0 if number is None else (number - 1) % 2
        kind = "migrating next" if turn else "migrating"
        cells = [(self._glyphs.migrating[turn], _STYLES[kind])] * width
        label = _label(span, number, width - 2, self._glyphs.ellipsis)
        cells[1 : 1 + len(label)] = [(char, _LABEL_STYLES[kind]) for char in label]
        return cells


def _label(span: RowSpan, number: int | None, room: int, ellipsis: str) -> str:
    """The longest name of a revision (or a task) for which there is room, else nothing."""
    if number is None:
        return ""
    name = _one_cell_each(span.revision or span.task or "?")
    named = f" {number} {name} "
    about = _one_cell_each(span.description)
    if about and len(named) + _SHORTEST_DESCRIPTION <= room:
        whole = f"{named}{about} "
        return whole if len(whole) <= room else f"{whole[: room - 2].rstrip()}{ellipsis} "
    candidates = (named, f" {number} {name[:8]} ", f" {number} ", str(number))
    return next((one for one in candidates if len(one) <= room), "")


def _one_cell_each(text: str) -> str:
    """The text where each character takes one cell, as in the pictures' bars."""
    return "".join(char if cell_len(char) == 1 else "?" for char in printable(text))


def _numbers(rows: Iterable[Row]) -> dict[RowSpan, int]:
    """A number for each revision, and each task without any, in the order in which they ran."""
    worked = [span for row in rows for span in row.spans if span.kind == "migrating"]
    with_revisions = {span.task for span in worked if span.revision}
    named = [span for span in worked if span.revision or span.task not in with_revisions]
    return {span: number for number, span in enumerate(dict.fromkeys(named), start=1)}


def _list_of(
    rows: Iterable[Row], numbers: dict[RowSpan, int], width: int, glyphs: _Glyphs
) -> list[Text]:
    lines = [Text()] if numbers else []
    for span, number in list(numbers.items())[:_LISTED_REVISIONS]:
        name = " ".join(filter(None, (span.revision or span.task or "?", span.description)))
        spent = duration(span.to_seconds - span.from_seconds).rjust(10)
        shown = _fitted(printable(name), max(8, width - 16), glyphs.ellipsis).rstrip()
        lines.append(Text.assemble((f"{number:>4}", "bold"), f"{spent}  {shown}"))
    if len(numbers) > _LISTED_REVISIONS:
        leader = next(row.run_id for row in rows if any(span in numbers for span in row.spans))
        more = len(numbers) - _LISTED_REVISIONS
        lines.append(Text(f"     and {more} more: orchestrator logs show {short(leader)}"))
    return lines


def _heading(start: Start, width: int, glyphs: _Glyphs) -> list[Text]:
    when = f"{start.began_at:%Y-%m-%d %H:%M:%S} UTC"
    database = printable(start.database or "?")
    first = f"start {short(start.start_id)}  {when}  "
    room = max(8, width - len(first))
    return [
        Text.assemble((first, "bold"), _fitted(database, room, glyphs.ellipsis).rstrip()),
        Text(summary(start)),
    ]


def summary(start: Start) -> str:
    """What a start came to: who did what, and when the last one was ready."""
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
    ready = (
        "none is ready"
        if start.ready_seconds is None
        else f"{'all' if start.ready == len(start.runs) else 'the last'} ready after "
        f"{duration(start.ready_seconds)}"
    )
    processes = "1 process" if len(start.runs) == 1 else f"{len(start.runs)} processes"
    return f"{processes}: {', '.join(parts)}; {ready}"


def _legend(rows: Iterable[Row], glyphs: _Glyphs) -> Text:
    """What the characters mean: those that are there."""
    shown = {kind for row in rows for kind in (row.outcome, *(span.kind for span in row.spans))}
    legend = Text()
    for glyph, kind in (
        (glyphs.looking, "looking"),
        (glyphs.waiting, "waiting"),
        ("".join(glyphs.migrating), "migrating"),
        (glyphs.ready, "ready"),
        (glyphs.failed, "failed"),
        (glyphs.cancelled, "cancelled"),
        (glyphs.unfinished, "unfinished"),
    ):
        if kind in shown:
            legend.append(glyph, style=_STYLES[kind])
            legend.append(f" {kind}  ", style="bright_black")
    legend.rstrip()
    return legend


def _name(row: Row, rows: Sequence[Row]) -> str:
    pid = "?" if row.pid is None else row.pid
    name = f"{printable(row.host or '?')}:{pid}"
    several = len({one.release for one in rows}) > 1
    return f"{name} {printable(row.release)}" if several and row.release else name


def _end(row: Row) -> str:
    how = row.role if row.outcome == "ready" else row.outcome
    return f"{how or row.outcome} {duration(row.ended_seconds)}"


def _fitted(text: str, width: int, ellipsis: str) -> str:
    """The text in exactly so many cells; of one that is too long, the end, which tells more."""
    if cell_len(text) <= width:
        return set_cell_size(text, width)
    while cell_len(text) >= width:
        text = text[1:]
    return set_cell_size(ellipsis + text, width)


def _tick_step(length: float, ticks: int) -> float:
    """A round number of seconds, so that at most about that many ticks fit."""
    step = 0.001
    while True:
        for factor in (1, 2, 5):
            if length / (step * factor) <= ticks:
                return step * factor
        step *= 10


def _tick_label(seconds: float, step: float) -> str:
    decimals = max(0, -math.floor(math.log10(step)))
    return f"{seconds:.{decimals}f} s"
