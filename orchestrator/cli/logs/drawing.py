"""The picture of a start as shapes of SVG, laid out from the top down; all lengths are pixels.

Widths of text are reckoned for the widest of the usual monospaced fonts, so that with any of them
nothing is cut off. Colours and lines are classes, which the document explains: `f-NAME` fills with
a colour, `s-NAME` draws with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from rich.cells import cell_len

from orchestrator.cli.logs import captions
from orchestrator.cli.logs.captions import fitted
from orchestrator.cli.logs.picture import AFTERWARDS
from orchestrator.timeline.starts import Row, RowSpan, Start, length_of, rows_of

_NARROWEST: Final = 960.0
_NARROWEST_BAR: Final = 360.0
_MARGIN: Final = 24.0
_GAP: Final = 16.0
_CHAR: Final = 8.5
"""Pixels of a character at 14 px: DejaVu Sans Mono and Menlo have 8.43, others less."""
_LABEL_CHAR: Final = 7.3
_ROW: Final = 26.0
_LINE: Final = 22.0
_TICK: Final = 80.0
_MARKS: Final = {"failed": "✗", "cancelled": "!", "unfinished": "?"}


class Drawing:
    """The shapes of a start's picture, and how wide and high it is."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._rows = rows_of(start)
        self._numbers = captions.numbers_of(self._rows)
        self._length = max(length_of(start), 0.001) * (1 + AFTERWARDS)
        self._names = [
            fitted(name, min(cell_len(name), captions.WIDEST_NAME), "…")
            for name in captions.names_of(self._rows)
        ]
        self._columns = captions.columns_of(start, self._rows)
        widths = [column.width * _CHAR for column in self._columns]
        self._left = _MARGIN + max(map(cell_len, self._names)) * _CHAR + _GAP
        beside = sum(widths) + _GAP * len(widths)
        self.width = max(_NARROWEST, self._left + _NARROWEST_BAR + beside + _MARGIN)
        self._right = self.width - _MARGIN - beside
        # The first column begins beside the bars, the others end where the next begins.
        self._how = self._right + _GAP
        self._figures = [
            self._how + sum(widths[: column + 1]) + _GAP * column
            for column in range(1, len(widths))
        ]
        self._y = _MARGIN

        self.shapes = [*self._heading(), *self._axis()]
        for number, row in enumerate(self._rows):
            self.shapes += self._row(row, number)
        self.shapes += [*self._list(), *self._legend()]
        self.height = self._y + _MARGIN

    def _down(self, by: float = _LINE) -> float:
        """The baseline of the next line, which is so high."""
        self._y += by
        return self._y - by * 0.28

    def _heading(self) -> Iterator[str]:
        title, database = captions.heading(self._start)
        y, beside = self._down(), _MARGIN + len(title) * _CHAR + _GAP
        yield _text(_MARGIN, y, title, "f-text b")
        yield _text(beside, y, fitted(database, self._room(beside), "…").rstrip(), "f-text")
        for line in captions.summary(self._start):
            yield _text(_MARGIN, self._down(), self._cut(line, _MARGIN), "f-text")

    def _axis(self) -> Iterator[str]:
        y = self._down(2 * _LINE)
        yield _line(self._left, self._right, self._y, "s-edge")
        for seconds, label in captions.ticks(self._length, int(self._width_of_bar / _TICK)):
            x = self._x(seconds)
            yield f'<path class="s-edge" d="M{x:.1f} {self._y - 4:.1f}v8"/>'
            if x + len(label) * _CHAR <= self._right:
                yield _text(x, y, label, "f-faint")
        for column, x in zip(self._columns[1:], self._figures, strict=True):
            yield _text(x, y, column.name, "f-faint end")
        self._y += _GAP / 2

    def _row(self, row: Row, number: int) -> Iterator[str]:
        y = self._down(_ROW)
        yield _text(_MARGIN, y, self._names[number], "f-text")
        middle = self._y - _ROW / 2
        for span in row.spans:
            yield from self._span(span, middle)
        if row.outcome in _MARKS:
            x = min(max(self._x(row.ended_seconds), self._left + 8), self._right - 8)
            yield _mark(x, middle, row.outcome)
        how, *figures = self._columns
        yield _text(self._how, y, how.cells[number], f"f-{row.outcome} b")
        for column, x in zip(figures, self._figures, strict=True):
            if column.cells[number]:
                yield _text(x, y, column.cells[number], "f-text end")

    def _span(self, span: RowSpan, middle: float) -> Iterator[str]:
        since, until = self._x(span.from_seconds), self._x(span.to_seconds)
        if span.kind != "migrating":
            until = self._right if span.kind == "ready" else until
            yield _line(since, until, middle, f"s-{span.kind} {span.kind}")
            return
        number = self._numbers.get(span)
        width = max(until - since, 0.0 if number is None else 2.0)  # none is too short to be seen
        turn = "migrating" if number is None or number % 2 else "next"
        yield _block(since, middle, width, turn)
        label = captions.label(span, number, int(width / _LABEL_CHAR), "…").strip()
        if label:
            yield _text(since + width / 2, middle + 4.2, label, "l mid")

    def _list(self) -> Iterator[str]:
        if self._numbers:
            self._y += _LINE / 2
        for number, spent, name in captions.list_of(self._start, self._numbers):
            y, beside = self._down(), _MARGIN + 15 * _CHAR
            yield _text(_MARGIN + 3 * _CHAR, y, number, "f-text b end")
            yield _text(_MARGIN + 13 * _CHAR, y, spent, "f-text end")
            yield _text(beside, y, self._cut(name, beside), "f-text")
        rest = captions.rest_of(self._rows, self._numbers)
        if rest:
            yield _text(_MARGIN + 15 * _CHAR, self._down(), rest, "f-faint")

    def _legend(self) -> Iterator[str]:
        self._y += _LINE / 2
        y, x = self._down(), _MARGIN
        for kind in captions.kinds_of(self._rows):
            yield from _swatch(kind, x, self._y - _LINE / 2)
            yield _text(x + 32, y, kind, "f-faint")
            x += 32 + len(kind) * _CHAR + 1.5 * _GAP

    @property
    def _width_of_bar(self) -> float:
        return self._right - self._left

    def _x(self, seconds: float) -> float:
        share = min(max(seconds / self._length, 0.0), 1.0)
        return self._left + share * self._width_of_bar

    def _cut(self, text: str, x: float) -> str:
        """The text, as far as there is room from here to the right margin."""
        return captions.cut(text, self._room(x), "…")

    def _room(self, x: float) -> int:
        return int((self.width - _MARGIN - x) / _CHAR)


def _swatch(kind: str, x: float, y: float) -> Sequence[str]:
    if kind in _MARKS:
        return [_mark(x + 16, y, kind)]
    if kind == "migrating":
        return [_block(x, y, 12, "migrating"), _block(x + 12, y, 12, "next")]
    return [_line(x, x + 24, y, f"s-{kind} {kind}")]


def _line(since: float, until: float, y: float, style: str) -> str:
    return f'<path class="{style}" d="M{since:.1f} {y:.1f}H{until:.1f}"/>'


def _block(x: float, middle: float, width: float, colour: str) -> str:
    return (
        f'<rect class="f-{colour}" x="{x:.1f}" y="{middle - 9:.1f}" width="{width:.1f}" '
        'height="18"/>'
    )


def _mark(x: float, middle: float, outcome: str) -> str:
    sign = _text(x, middle + 4.2, _MARKS[outcome], "l mid")
    return f'<circle class="f-{outcome}" cx="{x:.1f}" cy="{middle:.1f}" r="8"/>{sign}'


def _text(x: float, y: float, text: str, style: str) -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
