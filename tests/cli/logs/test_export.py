"""The picture of a start as a drawing: nothing is cut off, and nothing touches an edge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.cells import cell_len

from orchestrator.events import RevisionApplied, RevisionStarted
from tests.cli.logs.conftest import Logs
from tests.journals import (
    FIRST_START,
    RunOfOneProcess,
    found_current,
    led,
    three_starts,
    write,
)

SVG = "{http://www.w3.org/2000/svg}"
CHAR = {"l": 7.23, "": 8.43}
"""The width of a character of DejaVu Sans Mono, the widest of the fonts, at 12 and 14 px."""
LEAST = 20.0
"""How many pixels are left free at each edge."""
LONG = "2026_01_05_0930_an_identifier_as_long_as_some_people_write_them_for_their_revisions"


def of_one() -> list[RunOfOneProcess]:
    return [RunOfOneProcess(run_id="one", began_at=FIRST_START, told=tuple(led()))]


def that_fails() -> list[RunOfOneProcess]:
    return [run for runs in three_starts() for run in runs if run.run_id.startswith("a")]


def of_forty() -> list[RunOfOneProcess]:
    return [
        RunOfOneProcess(
            run_id=f"{number}",
            began_at=FIRST_START + timedelta(seconds=number / 10),
            told=tuple(found_current()),
            pid=4_194_304 - number,
            host="a-host-with-a-rather-long-name.example.org",
            release=f"1.4.{number}-build.20260105",
            database=f"sqlite:////{LONG * 3}/app.db",
        )
        for number in range(40)
    ]


def with_long_names() -> list[RunOfOneProcess]:
    def told() -> Iterator[tuple[float, object]]:
        for offset, event in led():
            if isinstance(event, RevisionStarted | RevisionApplied):
                name = f"{LONG}_{event.position}"
                yield offset, replace(event, revision=name, description=LONG * 2)
            else:
                yield offset, event

    return [replace(of_one()[0], told=tuple(told()))]  # type: ignore[arg-type]


def that_was_killed() -> list[RunOfOneProcess]:
    [run] = of_one()
    return [replace(run, told=run.told[:1]), replace(run, run_id="two", told=run.told[:7])]


@pytest.mark.parametrize(
    "runs",
    [of_one, that_fails, of_forty, with_long_names, that_was_killed],
    ids=lambda f: f.__name__,
)
def test_nothing_is_cut_off(logs: Logs, tmp_path: Path, runs: object) -> None:
    """Every text and every mark stands in the picture, away from its edges; no text in another."""
    path, svg = tmp_path / "journal.jsonl", tmp_path / "start.svg"
    for run in runs():  # type: ignore[operator]
        write(path, run)
    assert logs("timeline", "--svg", str(svg), on=path).exit_code == 0
    drawing = ET.parse(svg).getroot()
    width, height = float(drawing.attrib["width"]), float(drawing.attrib["height"])
    lines: dict[float, list[tuple[float, float]]] = {}
    for text in drawing.iter(f"{SVG}text"):
        style = text.attrib["class"].split()
        length = cell_len(text.text or "") * CHAR["l" if "l" in style else ""]
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        x -= length if "end" in style else length / 2 if "mid" in style else 0
        assert LEAST <= x <= x + length <= width - LEAST, text.text
        assert LEAST <= y <= height - LEAST, text.text
        lines.setdefault(y, []).append((x, x + length))
    for spans in lines.values():
        spans.sort()
        assert all(end < begin for (_, end), (begin, _) in itertools.pairwise(spans))
    for circle in drawing.iter(f"{SVG}circle"):
        assert LEAST + 8 <= float(circle.attrib["cx"]) <= width - LEAST - 8
    for block in list(drawing.iter(f"{SVG}rect"))[1:]:
        assert float(block.attrib["x"]) + float(block.attrib["width"]) <= width - LEAST


def test_every_process_of_a_start_has_a_row(logs: Logs, tmp_path: Path) -> None:
    """However many there are."""
    path, svg = tmp_path / "journal.jsonl", tmp_path / "start.svg"
    for run in of_forty():
        write(path, run)
    assert logs("timeline", "--svg", str(svg), on=path).exit_code == 0
    drawn = [text.text for text in ET.parse(svg).getroot().iter(f"{SVG}text")]
    assert drawn.count("found current") == 40
