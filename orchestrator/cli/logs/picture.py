"""The picture of a start on a terminal: one row a process, time from left to right.

Every kind of span has a character of its own, so that it reads without colour too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from orchestrator.cli.logs import captions
from orchestrator.cli.logs.captions import Column, fitted
from orchestrator.timeline.starts import Row, RowSpan, Start, length_of, rows_of

AFTERWARDS: Final = 0.06
"""How much of a picture shows what comes after the last run was ready."""

_NARROWEST_BAR: Final = 16
_CELLS_A_TICK: Final = 11


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
    names = captions.names_of(rows)
    names_width = min(max(map(cell_len, names)), captions.WIDEST_NAME, width // 3) + 1
    header, *ends = _ends(captions.columns_of(start, rows), width - names_width - _NARROWEST_BAR)
    bar = _Bar(max(_NARROWEST_BAR, width - names_width - len(header)), length_of(start), glyphs)
    numbers = captions.numbers_of(rows)
    labels, rule = bar.axis()
    lines = [*_heading(start, width, glyphs), Text()]
    lines.append(_faint(f"{' ' * names_width}{labels}{header}".rstrip()))
    lines.append(_faint(" " * names_width + rule))
    for row, name, end in zip(rows, names, ends, strict=True):
        line = Text(fitted(name, names_width - 1, glyphs.ellipsis) + " ")
        line.append_text(bar.row(row, numbers))
        line.append(end, style=_STYLES.get(row.outcome, ""))
        lines.append(line)
    lines += _list_of(start, numbers, width, glyphs)
    rest = captions.rest_of(rows, numbers)
    lines += [Text(f"      {rest}")] if rest else []
    return [*lines, Text(), _legend(rows, glyphs)]


def _ends(columns: Sequence[Column], room: int) -> list[str]:
    """How the rows ended, below a header; without the waits where there is no room for them."""
    how, *figures = columns
    if sum(column.width + 2 for column in columns) > room:
        figures = figures[-1:]
    lines = [f" {cell:<{how.width}}" for cell in (how.name, *how.cells)]
    for column in figures:
        for number, cell in enumerate((column.name, *column.cells)):
            lines[number] += f"  {cell:>{column.width}}"
    return lines


class _Bar:
    """Draws on a scale of `length` seconds in `width` cells."""

    def __init__(self, width: int, length: float, glyphs: _Glyphs) -> None:
        self._width = width
        self._length = max(length, 0.001) * (1 + AFTERWARDS)
        self._glyphs = glyphs

    def axis(self) -> tuple[str, str]:
        labels, rule = [" "] * self._width, [self._glyphs.axis] * self._width
        for seconds, label in captions.ticks(self._length, max(1, self._width // _CELLS_A_TICK)):
            cell = self._cell(seconds)
            if cell < self._width:
                rule[cell] = self._glyphs.tick
            if cell + len(label) <= self._width:
                labels[cell : cell + len(label)] = label
        return "".join(labels), "".join(rule)

    def row(self, row: Row, numbers: dict[RowSpan, int]) -> Text:
        cells, end = [(" ", "")] * self._width, 0
        for span in row.spans:
            since, until = self._cell(span.from_seconds), self._cell(span.to_seconds)
            if span.kind == "ready":
                until = self._width  # and so it stays
            if span in numbers:
                until = max(until, since + 1)  # no revision is too short to be seen
            drawn = self._drawn(span, numbers.get(span), min(until, self._width) - since)
            cells[since : since + len(drawn)] = drawn
            end = since + len(drawn)
        if row.outcome != "ready":
            mark = getattr(self._glyphs, row.outcome)
            end = max(end, self._cell(row.ended_seconds))
            cells[min(end, self._width - 1)] = mark, _STYLES[row.outcome]
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
        label = captions.label(span, number, width - 2, self._glyphs.ellipsis)
        cells[1 : 1 + len(label)] = [(char, _LABEL_STYLES[kind]) for char in label]
        return cells


def _faint(line: str) -> Text:
    return Text(line, style="bright_black")


def _heading(start: Start, width: int, glyphs: _Glyphs) -> list[Text]:
    first, database = captions.heading(start)
    room = max(8, width - len(first) - 2)
    return [
        Text.assemble((f"{first}  ", "bold"), fitted(database, room, glyphs.ellipsis).rstrip()),
        *map(Text, captions.summary(start)),
    ]


def _list_of(start: Start, numbers: dict[RowSpan, int], width: int, glyphs: _Glyphs) -> list[Text]:
    lines = [Text()] if numbers else []
    for number, spent, name in captions.list_of(start, numbers):
        shown = captions.cut(name, max(8, width - 16), glyphs.ellipsis)
        lines.append(Text.assemble((f"{number:>4}", "bold"), f"{spent:>10}  {shown}"))
    return lines


def _legend(rows: Iterable[Row], glyphs: _Glyphs) -> Text:
    """What the characters mean: those that are there."""
    legend = Text()
    for kind in captions.kinds_of(rows):
        legend.append("".join(getattr(glyphs, kind)), style=_STYLES[kind])
        legend.append(f" {kind}  ", style="bright_black")
    legend.rstrip()
    return legend
