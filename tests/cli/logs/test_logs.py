"""`orchestrator logs`: what it prints, for whom, and what it makes of bad input."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.cli.logs.commands import app
from orchestrator.timeline.runs import Run
from orchestrator.timeline.starts import Start
from tests.cli.logs.conftest import RUNNER, Logs
from tests.journals import (
    DATABASE,
    DEADLINE_SECONDS,
    FIRST_START,
    SECOND_START,
    RunOfOneProcess,
    led,
    three_starts,
    waited,
    write,
    write_starts,
)
from tests.projects import Project
from tests.zygote import Zygote

LOGS = "import sys; sys.argv[1:1] = ['logs']; from orchestrator.cli import main; main()"
GOLDEN = Path(__file__).parent / "golden"
LED, WAITED, FAILED, PEER_FAILED, CURRENT = ("b0" * 6, "b1" * 6, "a0" * 6, "a1" * 6, "b4" * 6)
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;]*m")


def assert_golden(name: str, text: str) -> None:
    """Compare with the file; `UPDATE_GOLDEN=1` writes it instead, to be read and committed."""
    text = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


# What is printed


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("runs", ["runs"]),
        ("runs_failed", ["runs", "--outcome", "failed", "-n", "2"]),
        ("show_led", ["show", LED]),
        ("show_waited", ["show", WAITED]),
        ("show_failed", ["show", FAILED]),
        ("show_peer_failed", ["show", PEER_FAILED]),
        ("show_current", ["show", CURRENT]),
        ("starts", ["starts"]),
        ("timeline", ["timeline", LED]),
        ("timeline_failed", ["timeline", PEER_FAILED]),
        ("timeline_last", ["timeline"]),
        ("revisions", ["revisions"]),
        ("runs_json", ["runs", "--json", "-n", "1", "--led"]),
    ],
)
def test_what_a_pipe_gets(logs: Logs, journal: Path, name: str, arguments: list[str]) -> None:
    """On a pipe: whole lines, nothing cut off, no colour, no blanks at ends, nothing on stderr."""
    result = logs(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert all(line == line.rstrip() for line in result.stdout.splitlines())
    assert_golden(name, result.stdout.replace(str(journal), "journal.jsonl"))


@pytest.mark.parametrize("arguments", [["runs"], ["starts"], ["revisions"], ["timeline", LED]])
@pytest.mark.parametrize("columns", [60, 80, 100, 140])
def test_what_a_terminal_gets(
    logs: Logs, monkeypatch: pytest.MonkeyPatch, columns: int, arguments: list[str]
) -> None:
    """On a terminal no line is wider than it, and with NO_COLOR there is no colour."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    output = logs(*arguments).stdout
    assert set(ESCAPE_SEQUENCE.findall(output)) <= {"\x1b[0m", "\x1b[1m"}
    plain = ESCAPE_SEQUENCE.sub("", output)
    assert max(map(len, plain.splitlines())) <= columns
    if columns == 80:
        assert_golden(f"{arguments[0]}_80", plain)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "xterm-256color")
    coloured = logs(*arguments).stdout
    assert coloured != output
    assert ESCAPE_SEQUENCE.sub("", coloured) == plain


def test_a_terminal_that_knows_only_ascii(journal: Path) -> None:
    """Where the encoding has nothing else, the picture is made of ASCII, and nothing fails."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    environment.pop("COLUMNS", None)
    for arguments in (["timeline", LED], ["show", FAILED]):
        result = subprocess.run(
            [sys.executable, "-c", LOGS, *arguments,
             "--journal", str(journal)],
            env=environment, capture_output=True, check=True, timeout=DEADLINE_SECONDS,
        )  # fmt: skip
        assert result.stdout.isascii()
        if arguments[0] == "timeline":
            assert_golden("timeline_ascii", result.stdout.decode())


def test_logs_is_logs_runs(logs: Logs, journal: Path) -> None:
    """Without a command, with options or without, it is `runs`."""
    assert logs().stdout == logs("runs").stdout
    assert logs("-n", "3").stdout == logs("runs", "-n", "3").stdout
    helped = RUNNER.invoke(app, ["--help"]).stdout
    assert all(name in helped for name in ("runs", "show", "starts", "timeline", "follow"))


def test_the_beginning_of_a_run_id_is_enough(logs: Logs) -> None:
    """For `show` and `timeline`; where it is not unique, the runs are named."""
    assert logs("show", LED[:4]).stdout == logs("show", LED).stdout
    assert logs("timeline", WAITED[:3]).stdout == logs("timeline", LED).stdout
    ambiguous = logs("show", "b")
    assert ambiguous.exit_code == 2
    assert LED in ambiguous.stderr
    assert WAITED in ambiguous.stderr
    for nobody in ("zz", ""):
        assert logs("show", nobody).exit_code == 2
        assert "orchestrator logs" in logs("show", nobody).stderr


# JSON


def fields_of(kind: type[Run | Start]) -> set[str]:
    return {field.name for field in fields(kind)}


def test_json_of_every_command(logs: Logs) -> None:
    """One document, which holds the fields of what is shown, and where it comes from."""
    runs = json.loads(logs("runs", "--json").stdout)
    assert len(runs["runs"]) == 11
    assert all(set(run) == fields_of(Run) for run in runs["runs"])
    assert runs["unreadable_lines"] == 0
    assert len(runs["journals"]) == 1
    story = json.loads(logs("show", WAITED, "--json").stdout)
    assert story["run"] in runs["runs"]
    assert story["leader"]["run_id"] == LED
    assert [event["event"] for event in story["events"]][:2] == ["run_started", "lock_waiting"]
    leader = json.loads(logs("show", LED, "--json").stdout)
    assert sorted(leader["waiters"]) == [f"b{number}" * 6 for number in (1, 2, 3)]
    starts = json.loads(logs("starts", "--json").stdout)
    assert all(set(start) == fields_of(Start) for start in starts["starts"])
    picture = json.loads(logs("timeline", LED, "--json").stdout)
    assert picture["start"] == starts["starts"][1]
    assert picture["rows"][0]["run_id"] == LED
    assert picture["length_seconds"] == pytest.approx(1.502)
    revisions = json.loads(logs("revisions", "--json").stdout)
    assert [item["applied"] for item in revisions["revisions"]] == [1, 1, 1]


def test_json_has_no_numbers_that_json_does_not_have(logs: Logs, tmp_path: Path) -> None:
    """Infinity in a journal (`lock_timeout_seconds = inf`) is null in every document."""
    path = tmp_path / "journal.jsonl"
    line = '{"at":"2026-01-05T00:00:00","event":"run_started","run_id":"r","wait":Infinity}\n'
    path.write_text(line)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    document = json.loads(logs("show", "r", "--json", on=path).stdout, parse_constant=refuse)
    assert document["events"][0]["wait"] is None


def test_json_of_a_failure(logs: Logs) -> None:
    """With --json a failure is a document on stdout too, and a message on stderr."""
    result = logs("show", "zz", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["type"] == "ConfigurationError"
    assert "zz" in result.stderr


# What is wanted


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (["-n", "3"], 3),
        (["--led"], 2),
        (["--outcome", "failed"], 4),
        (["--host", "web-2"], 1),
        (["--database", "app.db", "-n", "4"], 4),
        (["--since", SECOND_START.isoformat()], 7),
        (["--until", str(FIRST_START + timedelta(seconds=1)).replace("+00:00", "")], 4),
        (["--since", "1s"], 0),
    ],
)
def test_filters_of_runs(logs: Logs, arguments: list[str], count: int) -> None:
    """Each option leaves exactly the runs that it is about."""
    assert len(json.loads(logs("runs", *arguments, "--json").stdout)["runs"]) == count


def test_filters_of_starts_and_revisions(logs: Logs) -> None:
    """Starts and revisions can be narrowed to a time and a database."""
    since = ["--since", SECOND_START.isoformat()]
    assert len(json.loads(logs("starts", *since, "--json").stdout)["starts"]) == 2
    assert len(json.loads(logs("starts", "-n", "1", "--json").stdout)["starts"]) == 1
    assert json.loads(logs("revisions", "--database", "other", "--json").stdout)["revisions"] == []
    cut = logs("revisions", "-n", "1")
    assert "and 2 revisions that took no longer" in cut.stdout


def test_a_moment_that_is_none(logs: Logs) -> None:
    """A wrong moment or number is a usage error that says what is right."""
    result = logs("runs", "--since", "yesterday")
    assert result.exit_code == 2
    assert "2h" in result.stderr
    assert logs("runs", "--since", "999999w").exit_code == 2
    assert logs("runs", "-n", "0").exit_code == 2


# Where it is read from


def test_several_journals_and_standard_input(logs: Logs, tmp_path: Path) -> None:
    """Collected journals are read together; one that is given twice counts once."""
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, runs in zip(paths, three_starts(), strict=False):
        for run in runs:
            write(path, run)
    merged = logs("runs", "--json", "--journal", str(paths[1]), on=paths[0]).stdout
    assert len(json.loads(merged)["runs"]) == 4
    again = logs("revisions", "--json", "--journal", str(paths[0]), on=paths[0]).stdout
    assert [item["applied"] for item in json.loads(again)["revisions"]] == [1, 1, 1]
    piped = logs("runs", "--json", on="-", stdin=paths[0].read_bytes()).stdout
    assert (
        json.loads(piped)["runs"] == json.loads(logs("runs", "--json", on=paths[0]).stdout)["runs"]
    )


def test_both_generations_are_read(logs: Logs, tmp_path: Path) -> None:
    """As one journal, by time; a run that a copy has cut in two is shown as one."""
    path = tmp_path / "journal.jsonl"
    older = tmp_path / "journal.jsonl.1"
    for part, start in ((older, "b"), (path, "c")):
        for run in (run for runs in three_starts() for run in runs):
            if run.run_id.startswith(start):
                write(part, run)
    lines = older.read_bytes().splitlines(keepends=True)
    older.write_bytes(b"".join(lines[:5]))
    path.write_bytes(b"".join([*lines[5:], path.read_bytes()]))
    (tmp_path / "journal.jsonl.1.1").write_text("none of these")

    runs = json.loads(logs("runs", "--json", "--outcome", "ready", on=path).stdout)
    assert runs["journals"] == [str(older), str(path)]
    assert [run["run_id"][:2] for run in runs["runs"]] == ["b0", "b1", "b2", "b3", "b4", "c0", "c1"]
    assert runs["unreadable_lines"] == 0
    story = json.loads(logs("show", LED, "--json", on=path).stdout)
    assert story["run"]["outcome"] == "ready"
    assert len(story["events"]) == len(list(led()))
    assert len(json.loads(logs("starts", "--json", on=path).stdout)["starts"]) == 2
    twice = json.loads(logs("runs", "--json", "--journal", str(older), on=path).stdout)
    assert len(twice["runs"]) == 7


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_older_generation_is_passed_over(
    logs: Logs, journal: Path, tmp_path: Path, make: Callable[[Path], None]
) -> None:
    """A directory, or a pipe that nobody writes, is none; nobody has named it."""
    path = tmp_path / "journal.jsonl"
    path.write_bytes(journal.read_bytes())
    make(tmp_path / "journal.jsonl.1")
    assert logs("runs", on=path).stdout == logs("runs").stdout


def test_the_journal_of_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --journal it is that of the database; a missing one is no error, but is named."""
    monkeypatch.chdir(tmp_path)
    database = tmp_path / "app.db"
    arguments = ["runs", "--database-url", f"sqlite:///{database}"]
    nothing = RUNNER.invoke(app, arguments)
    assert nothing.exit_code == 0
    assert ".app.db.orchestrator/journal.jsonl" in nothing.stderr
    assert "--journal FILE" in nothing.stderr
    path = tmp_path / ".app.db.orchestrator" / "journal.jsonl"
    path.parent.mkdir()
    write(path, three_starts()[0][0])
    assert FAILED[:8] in RUNNER.invoke(app, arguments).stdout
    path.rename(path.with_name("journal.jsonl.1"))  # and nobody has written since
    assert FAILED[:8] in RUNNER.invoke(app, arguments).stdout
    monkeypatch.setenv("ORCHESTRATOR_JOURNAL", "off")
    off = RUNNER.invoke(app, arguments)
    assert off.exit_code == 2
    assert "--journal FILE" in off.stderr


@pytest.mark.parametrize(
    "command", [["runs"], ["starts"], ["timeline"], ["revisions"], ["runs", "--led"]]
)
def test_an_empty_journal(logs: Logs, tmp_path: Path, command: list[str]) -> None:
    """Says where it looked and how to look elsewhere; as JSON it is an empty document."""
    path = tmp_path / "journal.jsonl"
    path.touch()
    result = logs(*command, on=path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(path) in result.stderr
    assert "--journal FILE" in result.stderr
    assert not any(
        value for key, value in json.loads(logs(*command, "--json", on=path).stdout).items()
        if key != "journals"
    )  # fmt: skip


def test_a_journal_that_cannot_be_read(logs: Logs, tmp_path: Path) -> None:
    """One that was named and is missing, a directory, an impossible name: exit 2, no traceback."""
    for path in (tmp_path / "missing", tmp_path, "nul\0l"):
        for command in (["runs"], ["show", "a"], ["starts"], ["timeline"], ["revisions"]):
            result = logs(*command, on=path)
            assert result.exit_code == 2, command
            assert "cannot be read" in result.stderr
            assert not isinstance(result.exception, OSError)
    assert logs("follow", on=tmp_path).exit_code == 2


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_journal_whose_reading_fails(logs: Logs) -> None:
    """An error of the disk in the middle of a file is told, and is no traceback."""
    for command in (["runs"], ["runs", "--led"], ["revisions"], ["timeline"]):
        result = logs(*command, on="/proc/self/mem")
        assert result.exit_code == 2
        assert "/proc/self/mem cannot be read" in result.stderr


@pytest.mark.parametrize("command", [["runs", "--json"], ["runs"], ["show", LED], ["follow"]])
def test_whoever_reads_the_output_may_go(tmp_path: Path, command: list[str]) -> None:
    """`orchestrator logs | head -1` ends without a traceback."""
    path = tmp_path / "journal.jsonl"
    for _ in range(200):
        write(path, three_starts()[0][1])
    logs = f'{sys.executable} -c "{LOGS}" {" ".join(command)}'
    journal = f"--journal - < {path}" if command == ["follow"] else f"--journal {path}"
    result = subprocess.run(
        f"{logs} {journal} | head -c 1", shell=True, capture_output=True, timeout=DEADLINE_SECONDS,
        check=False,
    )  # fmt: skip
    assert b"Traceback" not in result.stderr


def test_unreadable_lines_are_counted(logs: Logs, journal: Path, tmp_path: Path) -> None:
    """What cannot be read is passed over and counted on stderr; the rest is shown."""
    path = tmp_path / "journal.jsonl"
    bad = b'rubbish\n\x00\xff\n{"at": "' + b"x" * 10_000_000 + b"\n"
    path.write_bytes(bad + journal.read_bytes() + b'{"at":"2026-01-0')
    for command in (["runs", "--led"], ["revisions"], ["starts"]):
        result = logs(*command, on=path)
        assert result.exit_code == 0
        assert result.stderr == "4 unreadable lines\n"
        assert result.stdout == logs(*command).stdout


def test_unknown_events_are_shown_with_their_fields(logs: Logs, tmp_path: Path) -> None:
    """What a newer version wrote is not hidden."""
    path = tmp_path / "journal.jsonl"
    path.write_text(
        '{"at":"2026-01-05T00:00:00","event":"moon_observed","run_id":"r","phase":"full","n":[1]}\n'
    )
    assert "moon_observed phase=full n=[1]" in logs("show", "r", on=path).stdout
    followed = logs("follow", on="-", stdin=path.read_bytes()).stdout
    assert "moon_observed phase=full n=[1]" in followed


# Pictures


@pytest.mark.parametrize("kind", ["svg", "html"])
def test_the_picture_as_a_file(logs: Logs, tmp_path: Path, kind: str) -> None:
    """A file of its own: it names nothing outside, and has every process and revision."""
    path = tmp_path / f"start.{kind}"
    result = logs("timeline", LED, f"--{kind}", str(path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert str(path) in result.stderr
    content = path.read_text(encoding="utf-8").replace("&#160;", " ")
    outside = re.findall(
        r"(?:https?:)?//[^\s\"'<>]+|url\((?!#)[^)]*\)|@import|<script|<link", content
    )
    assert set(outside) <= {"http://www.w3.org/2000/svg", DATABASE.removeprefix("sqlite:")}
    for text in ("web-1:5120", "web-2:88", "8c40e2b1559a", "waited", "found current", "1.50 s"):
        assert text in content


def test_a_picture_that_cannot_be_written(logs: Logs, tmp_path: Path) -> None:
    """A file that cannot be written is an error with its name, not a traceback."""
    result = logs("timeline", "--svg", str(tmp_path / "no" / "such" / "directory.svg"))
    assert result.exit_code == 2
    assert "directory.svg cannot be written" in result.stderr


HOSTILE = (
    "\x1b]0;owned\x07\x1b[31m\x9b2J\r\n\udce9<script>alert('&')</script>\u202e\u2028[bold]x[/]"
)


def hostile_runs() -> list[RunOfOneProcess]:
    """A leader that fails and one who waits, with something hostile in each text."""
    stories = []
    for number, told in enumerate((led(fails=True), waited(a_hostile_holder(), 1.0), led())):
        events = []
        for offset, event in told:
            values = {
                name: HOSTILE
                for name in type(event).__dataclass_fields__
                if isinstance(getattr(event, name), str) and name != "run_id"
            }
            events.append((offset, type(event)(**{**vars_of(event), **values})))
        stories.append(
            RunOfOneProcess(
                run_id=f"{number}{HOSTILE}",
                began_at=FIRST_START,
                told=tuple(events),
                host=HOSTILE,
                release=HOSTILE,
                database=HOSTILE,
            )
        )
    return stories


def a_hostile_holder() -> Any:
    holder = next(event.holder for _, event in _waiting() if event.holder is not None)
    return type(holder)(
        **{**vars_of(holder), "host": HOSTILE, "release": HOSTILE, "revision": HOSTILE,
           "run_id": f"0{HOSTILE}"}
    )  # fmt: skip


def _waiting() -> Iterator[tuple[float, Any]]:
    return ((at, event) for at, event in three_starts()[1][0].told if hasattr(event, "holder"))


def vars_of(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in type(value).__dataclass_fields__}


def assert_harmless(text: str) -> None:
    """No character that a terminal acts on, but line ends."""
    found = {char for char in text if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"}}
    assert found <= {"\n"}


def test_a_journal_cannot_drive_the_terminal_or_the_browser(logs: Logs, tmp_path: Path) -> None:
    """Control characters and markup in any text of a journal come out escaped, everywhere."""
    path = tmp_path / "journal.jsonl"
    for run in hostile_runs():
        write(path, run)
    svg, html = tmp_path / "start.svg", tmp_path / "start.html"
    commands = [
        ["runs"], ["show", "0"], ["show", "1"], ["starts"], ["timeline"], ["revisions"],
        ["runs", "--json"], ["show", "0", "--json"], ["starts", "--json"], ["timeline", "--json"],
        ["revisions", "--json"], ["show", f"nobody{HOSTILE}"],
        ["timeline", "--svg", str(svg), "--html", str(html)],
    ]  # fmt: skip
    for command in commands:
        result = logs(*command, on=path)
        assert isinstance(result.exception, SystemExit | None), result.exc_info
        assert_harmless(result.stdout)
        assert_harmless(result.stderr)
        assert result.exit_code == (2 if command[-1].startswith("nobody") else 0)
    assert "\\x1b]0;owned\\x07" in logs("runs", on=path).stdout
    for command in (["follow"], ["follow", "--json"]):
        assert_harmless(logs(*command, on="-", stdin=path.read_bytes()).stdout)
    for picture in (svg, html):
        content = picture.read_text(encoding="utf-8")
        assert_harmless(content)
        assert "<script" not in content


# Fuzz


@settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "10")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_no_journal_makes_a_command_fail(
    logs: Logs, journal: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Over bytes, and over mutated journals: each command ends with 0 or 2 and prints text."""
    path = tmp_path / "journal.jsonl"
    content = bytearray(
        data.draw(st.binary(max_size=200)) if data.draw(st.booleans()) else journal.read_bytes()
    )
    pieces = st.binary(max_size=5) | st.sampled_from(
        [b"\n", b'"', b"null", b"1e999", b"-1", b"[]", b'{"a":1}', b"\\u001b", b"0001", b"9" * 400]
    )
    for _ in range(data.draw(st.integers(1, 30))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 5))] = data.draw(pieces)
    path.write_bytes(bytes(content))
    svg, html = str(tmp_path / "start.svg"), str(tmp_path / "start.html")
    for command in (
        ["runs"], ["runs", "--led", "--json"], ["show", LED], ["show", FAILED, "--json"],
        ["starts"], ["timeline"], ["timeline", LED], ["revisions"],
        ["timeline", "--svg", svg, "--html", html],
    ):  # fmt: skip
        result = logs(*command, on=path)
        assert isinstance(result.exception, SystemExit | None), (command, result.exception)
        assert result.exit_code in (0, 2)
        assert_harmless(result.stdout)
    for more in ([], ["--json"]):
        followed = logs("follow", *more, on="-", stdin=bytes(content))
        assert followed.exit_code == 0
        assert_harmless(followed.stdout)


# Following


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], Queue[str]]]]:
    """Start `logs follow` as a process; its lines come into a queue."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], Queue[str]]:
        process = subprocess.Popen(
            [sys.executable, "-c", LOGS, "follow",
             *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        lines: Queue[str] = Queue()

        def read() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.put(line)

        threading.Thread(target=read, daemon=True).start()
        assert process.stderr is not None
        assert "not there yet" in process.stderr.readline()
        return process, lines

    yield start
    for process in started:
        process.kill()
        process.communicate()


def taken(lines: Queue[str], count: int) -> list[str]:
    """So many lines, each within the deadline."""
    try:
        return [lines.get(timeout=DEADLINE_SECONDS) for _ in range(count)]
    except Empty:
        raise AssertionError("a line did not come") from None


def test_follow_tells_each_event_until_it_is_interrupted(
    tmp_path: Path, following: Callable[..., tuple[subprocess.Popen[str], Queue[str]]]
) -> None:
    """Each event of every process once, through rotation; an interrupt ends it with 130."""
    path = tmp_path / "journal.jsonl"
    process, lines = following("--journal", str(path))
    stories = three_starts()
    write_starts(path)
    first = sum(len(run.told) for runs in stories for run in runs)
    seen = taken(lines, first)
    path.rename(tmp_path / "journal.jsonl.1")
    write(path, stories[0][1])
    seen += taken(lines, len(stories[0][1].told))
    assert sum("ready at b7725d6e0f13" in line for line in seen) == 7 + 1
    assert sum("waiting for" in line for line in seen) == 12
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_SECONDS) == 130
    assert lines.empty(), lines.get()


def test_follow_as_json_passes_the_lines_on(
    tmp_path: Path, following: Callable[..., tuple[subprocess.Popen[str], Queue[str]]]
) -> None:
    """With --json each line is the object that the journal has, in one line."""
    path = tmp_path / "journal.jsonl"
    _, lines = following("--json", "--journal", str(path))
    run = three_starts()[0][1]
    write(path, run)
    seen = [json.loads(line) for line in taken(lines, len(run.told))]
    assert seen == [json.loads(line) for line in path.read_text().splitlines()]


def test_follow_reads_standard_input_to_its_end(logs: Logs, journal: Path) -> None:
    """The journal by time, one readable line an event."""
    lines = sorted(
        journal.read_bytes().splitlines(keepends=True),
        key=lambda line: (json.loads(line)["at"], json.loads(line)["run_id"]),
    )
    result = logs("follow", on="-", stdin=b"".join(lines))
    assert result.exit_code == 0
    assert_golden("follow", result.stdout)
    assert logs("follow", "--journal", "other", on="-", stdin=b"").exit_code == 2


# The real command


def test_a_real_start(project: Project, zygote: Zygote, logs: Logs) -> None:
    """Four processes of `orchestrator run` at once, then two whose migration fails.

    One led; who waited is linked to it; they are one start; a failure has its file and line.
    """
    path = project.state / "journal.jsonl"
    project.chain(3, seconds=0.2)
    ended = zygote.run(project, "run", processes=4)
    assert [end.code for end in ended] == [0] * 4
    runs = json.loads(logs("runs", "--json", on=path).stdout)["runs"]
    (leader,) = [run for run in runs if run["role"] == "led"]
    assert [item["revision"] for item in leader["applied"]] == ["r1", "r2", "r3"]
    others = [run for run in runs if run["role"] in ("waited", "found current")]
    assert len(others) == 3
    for run in others:
        assert {wait["run_id"] for wait in run["waits"]} <= {leader["run_id"], None}
    (start,) = json.loads(logs("starts", "--json", on=path).stdout)["starts"]
    assert (len(start["runs"]), start["ready"], start["leaders"]) == (4, 4, [leader["run_id"]])
    picture = logs("timeline", on=path).stdout
    assert "1 led" in picture
    assert "█" in picture
    project.revision("r4", "r3", upgrade="raise RuntimeError('no such thing')")
    assert project.run("run").code == 1
    (failed,) = json.loads(logs("runs", "--outcome", "failed", "--json", on=path).stdout)["runs"]
    story = logs("show", failed["run_id"], on=path).stdout
    assert "RuntimeError: no such thing" in story
    assert re.search(r"where +.*r4\.py, line \d+", story)
    assert "durable     nothing" in story
    assert "watch r4: it failed once" in logs("revisions", on=path).stdout
