"""The figures of a run: one place has them, and every face shows those."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from orchestrator.timeline.wording import duration
from tests.cli.logs.conftest import Logs
from tests.journals import FIRST_START, RunOfOneProcess, led, write
from tests.projects import Project
from tests.zygote import Zygote

Figures = dict[str, tuple[str, str]]
"""Of each run, by its process: how long it waited, how long it took; empty where it is not told."""


def cell(header: str, line: str, name: str) -> str:
    """What stands in a line below a name, where both end at the same place."""
    end = header.index(name) + len(name)
    found = re.search(r"\S+(?: \S+)*$", line[:end])
    return found[0] if found else ""


def of_runs(logs: Logs, on: Path, _: str) -> Figures:
    header, *lines = logs("runs", on=on).stdout.splitlines()
    told = (line for line in lines if re.match(r"\d{4}-", line))
    return {
        line.split()[3]: (cell(header, line, "waited"), cell(header, line, "took")) for line in told
    }


def of_stories(logs: Logs, on: Path, _: str) -> Figures:
    figures = {}
    for run in json.loads(logs("runs", "--json", on=on).stdout)["runs"]:
        story = logs("show", run["run_id"], on=on).stdout
        took = re.search(r"^  took +(.+?)(?:, (.+) of it waiting)?$", story, re.MULTILINE)
        process = re.search(r"^  process +([^\s,]+)", story, re.MULTILINE)
        assert took
        assert process
        figures[process[1]] = (took[2] or "", took[1])
        after = re.search(r"ready at \S+ after (.+?):", story)
        assert after is None or after[1] == took[1]
        applied = re.search(r"^  applied +(\d+) revision", story, re.MULTILINE)
        assert int(applied[1] if applied else 0) == len(run["applied"])
    return figures


def of_a_picture(logs: Logs, on: Path, start: str) -> Figures:
    lines = logs("timeline", start, on=on).stdout.splitlines()
    header = next(line for line in lines if line.endswith("took"))
    told = (line for line in lines if re.match(r"\S+:\d+ ", line))
    with_waits = "waited" in header
    return {
        line.split()[0]: (
            cell(header, line, "waited") if with_waits else "",
            cell(header, line, "took"),
        )
        for line in told
    }


def of_svg(document: str) -> Figures:
    texts = {
        (float(text.attrib["y"]), float(text.attrib["x"])): text.text or ""
        for text in ET.fromstring(document).iter("{http://www.w3.org/2000/svg}text")
    }
    columns = {text: x for (_, x), text in texts.items() if x > 800}  # below which all else stands
    return {
        text: (texts.get((y, columns.get("waited", 0)), ""), texts[y, columns["took"]])
        for (y, _), text in texts.items()
        if re.fullmatch(r"\S+:\d+", text)
    }


def of_an_svg_file(logs: Logs, on: Path, start: str) -> Figures:
    path = on.with_suffix(".svg")
    assert logs("timeline", start, "--svg", str(path), on=on).exit_code == 0
    return of_svg(path.read_text(encoding="utf-8"))


def of_an_html_file(logs: Logs, on: Path, start: str) -> Figures:
    path = on.with_suffix(".html")
    assert logs("timeline", start, "--html", str(path), on=on).exit_code == 0
    drawn = re.search(r"<svg.*</svg>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert drawn
    return of_svg(drawn[0])


def in_words(runs: list[dict[str, Any]]) -> Figures:
    return {
        f"{run['host']}:{run['pid']}": (
            duration(run["waited_seconds"]) if run["waits"] else "",
            duration(run["duration_seconds"]),
        )
        for run in runs
    }


FACES = [of_runs, of_stories, of_a_picture, of_an_svg_file, of_an_html_file]


def test_every_face_has_the_same_figures(logs: Logs, journal: Path) -> None:
    """The tables, the stories, the pictures and every JSON document say the same of each run."""
    runs = json.loads(logs("runs", "--json").stdout)["runs"]
    by_id = {run["run_id"]: run for run in runs}
    for run in runs:
        assert json.loads(logs("show", run["run_id"], "--json").stdout)["run"] == run
    starts = json.loads(logs("starts", "--json").stdout)["starts"]
    header, *lines = logs("starts").stdout.splitlines()
    assert [run for start in starts for run in start["runs"]] == runs
    for start, line in zip(starts, lines, strict=True):
        document = json.loads(logs("timeline", start["start_id"], "--json").stdout)
        assert document["start"] == start
        for row in document["rows"]:
            run = by_id[row["run_id"]]
            for name in ("waited_seconds", "duration_seconds"):
                assert row[name] == run[name]
        ready = start["ready_seconds"]
        assert cell(header, line, "ready after") == ("never" if ready is None else duration(ready))
        assert ready is None or ready == document["length_seconds"]
        words = in_words(start["runs"])
        for face in FACES:
            found = face(logs, journal, start["start_id"])
            assert {name: found[name] for name in words} == words, face.__name__
        picture = logs("timeline", start["start_id"]).stdout
        assert (f"ready after {duration(ready or 0)}" in picture) is (ready is not None)
        applied = sum(len(run["applied"]) for run in start["runs"])
        assert (f"{applied} revisions applied" in picture) is (applied > 0)


def test_a_single_run_and_its_start_agree(logs: Logs, tmp_path: Path) -> None:
    """What one process took is when its start was ready."""
    path = tmp_path / "journal.jsonl"
    run = RunOfOneProcess(run_id="r", began_at=FIRST_START, told=tuple(led()))
    write(path, run)
    document = json.loads(logs("timeline", "--json", on=path).stdout)
    [one] = document["start"]["runs"]
    assert one["duration_seconds"] == document["start"]["ready_seconds"] == 1.481
    assert document["rows"][0]["ended_seconds"] == document["length_seconds"] == 1.481


def test_the_journal_has_what_the_command_reported(
    project: Project, zygote: Zygote, logs: Logs
) -> None:
    """Of real processes, one that leads and three that wait: report and journal have one figure."""
    project.chain(2, seconds=0.2)
    ended = zygote.run(project, "run", "--json", processes=4)
    reports = {end.json["run_id"]: end.json for end in ended}
    path = project.state / "journal.jsonl"
    [start] = json.loads(logs("starts", "--json", on=path).stdout)["starts"]
    assert {run["run_id"] for run in start["runs"]} == set(reports)
    for run in start["runs"]:
        report = reports[run["run_id"]]
        for name in ("duration_seconds", "waited_seconds", "applied"):
            assert run[name] == report[name]
    words = in_words(start["runs"])
    for face in FACES:
        assert face(logs, path, start["start_id"]) == words, face.__name__


def test_long_lists_are_short_for_people(logs: Logs, project: Project) -> None:
    """Of a hundred revisions people are told the first, the last, how many; JSON has all."""
    names = project.chain(100)
    assert project.run("run").code == 0
    path = project.state / "journal.jsonl"
    [run] = json.loads(logs("runs", "--json", on=path).stdout)["runs"]
    story = logs("show", run["run_id"], on=path).stdout
    assert "plan: upgrade: r1, …, r100 (100 revisions)\n" in story
    assert max(map(len, story.splitlines())) < 200
    events = json.loads(logs("show", run["run_id"], "--json", on=path).stdout)["events"]
    [plan] = [event for event in events if event["event"] == "plan_made"]
    assert plan["revisions"] == list(names)
    assert [item["revision"] for item in run["applied"]] == list(names)
