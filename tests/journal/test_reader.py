"""Reading, searching and following journals, whatever is in them."""

from __future__ import annotations

import io
import json
import os
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.events import NAMES, from_dict
from orchestrator.journal.follower import Follower
from orchestrator.journal.reader import (
    LONGEST_LINE,
    Lines,
    Tally,
    all_runs,
    decode,
    entries,
    entries_about,
    last_runs,
    wanted_runs,
)
from orchestrator.journal.starts import last_starts, start_of
from orchestrator.journal.writer import Journal, Origin
from orchestrator.timeline.filter import Filter
from orchestrator.timeline.runs import Run
from orchestrator.timeline.starts import starts_of
from tests.journals import (
    DEADLINE_SECONDS,
    RunOfOneProcess,
    found_current,
    led,
    three_starts,
    write,
    writing,
)

MOMENT = datetime(2026, 1, 5, tzinfo=UTC)


def line_of(run_id: str, event: str, second: float = 0.0, **values: Any) -> bytes:
    """A line as a journal has it, without its end."""
    common = {
        "at": (MOMENT + timedelta(seconds=second)).isoformat(),
        "event": event,
        "database": "sqlite:///app.db",
        "run_id": run_id,
    }
    return json.dumps({**common, **values}, separators=(",", ":")).encode()


def short_run(
    run_id: str, began: float, ended: float, end: str = "run_cancelled"
) -> list[tuple[float, bytes]]:
    """The lines of a run with their moments."""
    return [
        (began, line_of(run_id, "run_started", began, command="run", sequence=0)),
        (ended, line_of(run_id, end, ended, applied=[], sequence=1)),
    ]


def by_time(lines: Iterable[tuple[float, bytes]]) -> list[bytes]:
    """The lines as they are written: by moment, those of one run in their order."""
    return [line for _, line in sorted(lines, key=lambda item: item[0])]


def journal(*lines: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(line + b"\n" for line in lines))


def ids(runs: list[Run]) -> list[str]:
    return [run.run_id for run in runs]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The journal of three starts, its runs one after the other."""
    path = tmp_path / "journal.jsonl"
    for runs in three_starts():
        for run in runs:
            write(path, run)
    return path


# Lines


def test_every_event_that_is_written_is_read_back(tmp_path: Path) -> None:
    """What the journal writes of an event, the reader gives back whole."""
    events = [event for fails in (False, True) for _, event in led(fails=fails)]
    run = RunOfOneProcess(run_id="r", began_at=MOMENT, told=tuple((0.5, event) for event in events))
    write(tmp_path / "journal.jsonl", run)
    with (tmp_path / "journal.jsonl").open("rb") as file:
        tally = Tally()
        read = list(entries(file, tally))
    assert [from_dict(entry.values) for entry in read] == run.events
    assert [entry.name for entry in read] == [NAMES[type(event)] for event in events]
    assert all(entry.at == MOMENT + timedelta(seconds=0.5) for entry in read)
    assert tally.unreadable_lines == 0


@given(
    lines=st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20),
    cuts=st.lists(st.integers(1, 50), min_size=1),
    ended=st.booleans(),
)
def test_lines_do_not_depend_on_how_they_are_cut(
    lines: list[bytes], cuts: list[int], ended: bool
) -> None:
    """Whatever the sizes of the blocks, the same lines come out; the last may lack its end."""
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    cutter, found, position = Lines(Tally()), [], 0
    for turn in range(len(data) + 1):
        size = cuts[turn % len(cuts)]
        if data[position : position + size]:
            found += cutter.feed(data[position : position + size])
        position += size
    found += cutter.end()
    expected = data.split(b"\n")
    assert found == (expected if expected[-1] else expected[:-1])


@given(data=st.binary(max_size=300))
def test_no_bytes_are_an_exception(data: bytes) -> None:
    """Every line that is not empty is either an entry or counted."""
    tally = Tally()
    found = list(entries(io.BytesIO(data), tally))
    assert len(found) + tally.unreadable_lines == sum(
        bool(line.strip()) for line in data.split(b"\n")
    )


@pytest.mark.parametrize(
    "line",
    [
        b"no JSON",
        b"[1, 2]",
        b'"text"',
        b"null",
        b"{}",
        b'{"event": "run_started"}',
        b'{"event": 1, "at": "2026-01-01T00:00:00+00:00"}',
        b'{"event": "run_started", "at": 5}',
        b'{"event": "run_started", "at": "soon"}',
        b'{"event": "run_started", "at": "0001-01-01T00:00:00+14:00"}',
        b'{"event": "run_started", "at": "2026-01-01T00:00:00+00:00"',
        b"\x00\xff\xfe",
        b"[" * 100_000,
        b'{"at": ' + b"9" * 10_000 + b"}",
    ],
    ids=lambda line: line[:40].decode("latin-1"),
)
def test_what_is_no_entry_is_counted(line: bytes) -> None:
    """Neither what is no JSON, nor what is no object, nor what lacks a name or a moment."""
    tally = Tally()
    assert list(entries(journal(line), tally)) == []
    assert tally.unreadable_lines == 1


def test_a_name_that_is_no_text_is_read() -> None:
    """A file name with bytes that are no UTF-8 is written as half a surrogate pair, and read."""
    entry = decode(line_of("r", "task_failed", file="/srv/m\udce9tro.py"))
    assert entry is not None
    assert entry.values["file"] == "/srv/m\udce9tro.py"
    assert decode(b'{"at": "\\ud800"' + b"[" * 100_000) is None


def test_moments_are_utc() -> None:
    """A moment without a zone is UTC; one with another zone is converted."""
    plain = decode(b'{"event": "x", "at": "2026-01-05T12:00:00"}')
    other = decode(b'{"event": "x", "at": "2026-01-05T14:00:00+02:00"}')
    assert plain is not None
    assert other is not None
    assert plain.at == other.at == MOMENT + timedelta(hours=12)
    assert plain.at.utcoffset() == other.at.utcoffset() == timedelta(0)


def test_what_a_newer_version_wrote_is_read() -> None:
    """Unknown events and unknown fields are entries like any other."""
    entry = decode(line_of("r", "moon_phase_observed", nested={"deep": [1]}, colour="green"))
    assert entry is not None
    assert (entry.name, entry.values["nested"]) == ("moon_phase_observed", {"deep": [1]})


def test_a_line_of_ten_megabytes_is_passed_over(tmp_path: Path) -> None:
    """It is counted once, what follows it is read, and memory does not grow with it."""
    path = tmp_path / "journal.jsonl"
    good = line_of("r", "run_started")
    with path.open("wb") as file:
        file.write(good + b"\n" + b'{"at": "' + b"x" * 10_000_000 + b'"}\n' + good + b"\n")
    tally = Tally()
    with path.open("rb") as file:
        tracemalloc.start()
        found = list(entries(file, tally))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert (len(found), tally.unreadable_lines) == (2, 1)
    assert peak < 4 * LONGEST_LINE


# The last runs


drawn_runs = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20)), max_size=25)
rubbish = st.sampled_from(
    [b"", b"rubbish", b'"run_started"', b'{"event":"run_started"}', b'{"x":"run_started","at":1}']
)


@settings(max_examples=100, deadline=None)
@given(
    drawn=drawn_runs,
    count=st.integers(1, 12),
    between=st.lists(rubbish, max_size=10),
    block=st.sampled_from([1, 7, 50, 150, 1000]),
)
def test_the_last_runs_are_the_same_from_the_end_as_from_the_beginning(
    drawn: list[tuple[int, int]], count: int, between: list[bytes], block: int
) -> None:
    """Reading from the end finds what reading everything finds, rubbish or not.

    Wherever the blocks end in which the file is read.
    """
    mixed = by_time(
        line
        for number, (began, length) in enumerate(drawn)
        for line in short_run(f"{number:02}", began, began + length)
    )
    for number, line in enumerate(between):
        mixed.insert(number * 3, line)
    file = journal(*mixed)
    everything = wanted_runs([file], 1000, Tally(), Filter())
    assert len(everything) == len(drawn)
    with patch("orchestrator.journal.reader._BLOCK", block):
        assert last_runs([file], count, Tally()) == everything[-count:]
        assert wanted_runs([file], count, Tally(), Filter()) == everything[-count:]


class CountedFile(io.BytesIO):
    """Counts the bytes that are read of it."""

    bytes_read = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.bytes_read += len(data)
        return data

    def read1(self, size: int | None = -1, /) -> bytes:
        data = super().read1(-1 if size is None else size)
        self.bytes_read += len(data)
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        data = super().readline(size)
        self.bytes_read += len(data)
        return data


def test_the_last_runs_cost_the_same_whatever_the_size_of_the_file() -> None:
    """No more is read of a journal of 20,000 runs than of one of 2,000."""
    costs = []
    for runs in (2_000, 20_000):
        lines = [
            line for number in range(runs) for _, line in short_run(f"{number}", number, number)
        ]
        file = CountedFile(journal(*lines).getvalue())
        assert len(last_runs([file], 20, Tally())) == 20
        costs.append(file.bytes_read)
    assert costs[1] <= costs[0] * 1.1


def test_a_hostile_file_costs_one_pass(tmp_path: Path) -> None:
    """Searching from the end reads no byte again and again, even where every line lies."""
    marks = CountedFile(b'"run_started"' * 300_000)
    last_runs([marks], 5, Tally())
    assert marks.bytes_read < 4 * len(marks.getvalue())
    lines = CountedFile(b'"run_started" "run_started"\n' * 100_000)
    last_runs([lines], 5, Tally())
    assert lines.bytes_read < 50 * len(lines.getvalue())


def test_several_journals_are_merged_by_time() -> None:
    """The last runs of several files are the last of all of them, and each counts once."""
    odd = journal(*(line for n in range(1, 40, 2) for _, line in short_run(f"{n:02}", n, n)))
    even = journal(*(line for n in range(0, 40, 2) for _, line in short_run(f"{n:02}", n, n)))
    assert ids(last_runs([odd, even], 5, Tally())) == ["35", "36", "37", "38", "39"]
    assert ids(wanted_runs([odd, even, odd], 3, Tally(), Filter())) == ["37", "38", "39"]


def test_a_run_that_lies_in_two_files_is_one_run() -> None:
    """Where a copy cut a run in two, its halves come together again."""
    (_, first), (_, second) = short_run("r", 0, 1)
    (run,) = all_runs([journal(first), journal(second)], Tally(), Filter())
    assert (run.outcome, run.duration_seconds) == ("cancelled", 1.0)


def test_entries_about_a_run_are_its_own_and_those_that_name_it(written: Path) -> None:
    """Also the waiters' entries that name it as the holder, and nothing else."""
    with written.open("rb") as file:
        found = list(entries_about([file], "b0" * 6, Tally()))
    assert {entry.run_id for entry in found} == {f"b{number}" * 6 for number in range(4)}
    assert {entry.name for entry in found if entry.run_id != "b0" * 6} == {"lock_waiting"}


# Starts

ENDS = ("run_cancelled", "database_ready", "database_ready")
"""Who is ready and did not lead may have come late to a start."""


@settings(max_examples=100, deadline=None)
@given(drawn=drawn_runs, count=st.integers(1, 6), files=st.integers(1, 3))
def test_the_last_starts_are_the_same_from_the_end_as_from_the_beginning(
    drawn: list[tuple[int, int]], count: int, files: int
) -> None:
    """However few runs are read, each of the last starts has all of its runs."""
    journals: list[BinaryIO] = []
    for part in range(files):
        lines = by_time(
            line
            for number, (began, length) in enumerate(drawn)
            if number % files == part
            for line in short_run(f"{number:02}", began, began + length, ENDS[number % len(ENDS)])
        )
        journals.append(journal(*lines))
    everything = starts_of(all_runs(journals, Tally(), Filter()))
    with patch("orchestrator.journal.starts._RUNS_A_START", 1):  # so that few are too few
        assert last_starts(journals, count, Tally()) == everything[-count:]
    for start in everything:
        assert start_of(journals, start.runs[-1], Tally()) == start


def test_a_run_that_began_long_before_holds_its_start_together() -> None:
    """Short runs that share nothing but one long run, read from the end, are one start with it."""
    short = [line for n in range(40) for line in short_run(f"{n:02}", 10 + n * 10, 11 + n * 10)]
    file = journal(*by_time([*short, *short_run("long", 0, 1000)]))
    with patch("orchestrator.journal.starts._RUNS_A_START", 1):
        (start,) = last_starts([file], 1, Tally())
    assert (start.start_id, len(start.runs)) == ("long", 41)


def test_a_start_is_whole_however_long_its_chain_is() -> None:
    """Runs that overlap in a chain over hours are one start, from whichever it is asked."""
    lines = [line for n in range(50) for line in short_run(f"{n:02}", n * 500, n * 500 + 600)]
    stray = short_run("stray", 90_000, 90_001)
    file = journal(*by_time([*lines, *stray]))
    runs = list(all_runs([file], Tally(), Filter()))
    middle = next(run for run in runs if run.run_id == "25")
    assert len(start_of([file], middle, Tally()).runs) == 50


# Following


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[tuple[Path, Follower, Tally]]:
    """Follows a journal that has one line already."""
    path, tally = tmp_path / "journal.jsonl", Tally()
    append(path, line_of("old", "run_started"))
    following = Follower([path], tally)
    yield path, following, tally
    following.close()


def polled(follower: Follower) -> list[str]:
    return [entry.run_id for entry in follower.poll()]


def test_only_what_is_new_is_followed(follower: tuple[Path, Follower, Tally]) -> None:
    """What was there before is not told, what comes is, once, and only when it is whole."""
    path, following, tally = follower
    assert polled(following) == []
    append(path, line_of("new", "run_started"), b"rubbish")
    assert polled(following) == ["new"]
    assert polled(following) == []
    whole = line_of("cut", "run_started")
    with path.open("ab") as file:
        file.write(whole[:30])
    assert polled(following) == []
    append(path, whole[30:])
    assert polled(following) == ["cut"]
    assert tally.unreadable_lines == 1


def test_following_goes_through_rotation(follower: tuple[Path, Follower, Tally]) -> None:
    """After rename and create both files are followed: a run ends in the file it began in."""
    path, following, _ = follower
    append(path, line_of("before", "run_started"))
    path.rename(path.with_suffix(".1"))
    append(path.with_suffix(".1"), line_of("late", "run_started"))
    assert polled(following) == ["before", "late"]
    append(path, line_of("after", "run_started", second=2))
    append(path.with_suffix(".1"), line_of("later", "run_started", second=1))
    assert polled(following) == ["later", "after"]


def test_following_goes_through_many_rotations(follower: tuple[Path, Follower, Tally]) -> None:
    """Rotation after rotation nothing is lost, and old files do not stay open for ever."""
    path, following, _ = follower
    open_before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    for number in range(100):
        path.rename(path.with_suffix(f".{number}"))
        append(path, line_of(str(number), "run_started"))
        assert polled(following) == [str(number)]
    if open_before:
        assert len(os.listdir("/proc/self/fd")) <= open_before + 64


@pytest.mark.parametrize("size", [1, 10], ids=["shorter", "longer"])
def test_following_goes_through_truncation(
    follower: tuple[Path, Follower, Tally], size: int
) -> None:
    """A file that was emptied in its place is read from its beginning, longer or not."""
    path, following, _ = follower
    assert polled(following) == []
    path.write_bytes(b"")
    append(
        path,
        *(line_of(f"new {number}", "run_started", second=1 + number) for number in range(size)),
    )
    assert polled(following) == [f"new {number}" for number in range(size)]


def test_following_waits_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    """One that comes later is followed from its first line; one that goes may come again."""
    path = tmp_path / "journal.jsonl"
    following = Follower([path], Tally())
    assert polled(following) == []
    append(path, line_of("first", "run_started"))
    assert polled(following) == ["first"]
    append(path, line_of("last words", "run_started"))
    path.unlink()
    assert polled(following) == ["last words"]
    assert polled(following) == []
    append(path, line_of("again", "run_started"))
    assert polled(following) == ["again"]
    following.close()


# Many writers


def test_a_run_that_is_many_rotations_behind_is_followed(tmp_path: Path) -> None:
    """A process that got no time goes on in the file in which its run began."""
    path = tmp_path / "journal.jsonl"
    run = RunOfOneProcess(run_id="r", began_at=MOMENT, told=tuple(led()))
    late = Journal(path, Origin(host="h", pid=1, database="d", release=None))
    following = Follower([path], Tally())
    for rotation in range(30):
        path.rename(path.with_suffix(f".{rotation}"))
        path.touch()
        assert following.poll() == []

    for event in run.events:
        late(event)
    late.close()

    assert len(following.poll()) == len(run.told)
    following.close()


def test_sixteen_processes_write_while_the_journal_is_rotated(tmp_path: Path) -> None:
    """No event is lost and none is torn, while the file is renamed and created anew.

    Neither by who reads all the files afterwards, nor by who follows the one name.
    """
    path = tmp_path / "journal.jsonl"
    told = tuple(led())
    stories = [
        [
            RunOfOneProcess(run_id=f"{writer:02}-{number:02}", began_at=MOMENT, told=told)
            for number in range(25)
        ]
        for writer in range(16)
    ]
    expected = sorted(run.run_id for runs in stories for run in runs)
    tally, followed, rotations = Tally(), 0, 0
    path.touch()
    following = Follower([path], tally)
    deadline = time.monotonic() + DEADLINE_SECONDS
    with writing(path, stories) as writers:
        while any(writer.is_alive() for writer in writers):
            assert time.monotonic() < deadline
            followed += len(following.poll())
            if path.exists() and path.stat().st_size > 60_000:
                path.rename(path.with_suffix(f".{rotations}"))
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
                rotations += 1
    followed += len(following.poll())
    following.close()
    assert rotations >= 1
    files = [file.open("rb") for file in tmp_path.iterdir()]
    found = list(all_runs(files, tally, Filter()))
    for file in files:
        file.close()
    assert sorted(ids(found)) == expected
    assert all(run.outcome == "ready" and len(run.revisions) == 3 for run in found)
    assert tally.unreadable_lines == 0
    assert followed == len(expected) * len(told)


# Mutated journals


@settings(max_examples=int(os.environ.get("FUZZ_EXAMPLES", "100")), deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_journal_is_an_exception(data: st.DataObject) -> None:
    """Bytes changed, taken out, put in, lines doubled or torn: runs and starts come out."""
    lines = [
        json.dumps({"at": event.at.isoformat(), **values}).encode() + b"\n"
        for run in (
            RunOfOneProcess(run_id="led", began_at=MOMENT, told=tuple(led())),
            RunOfOneProcess(run_id="current", began_at=MOMENT, told=tuple(found_current())),
        )
        for event in run.events
        for values in [
            {"event": NAMES[type(event)], "run_id": run.run_id, "sequence": event.sequence}
        ]
    ]
    content = bytearray(b"".join(data.draw(st.permutations(lines))))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(content)))
        piece = data.draw(
            st.binary(max_size=6) | st.sampled_from([b"\n", b'"', b"\\u0000", b"1e999"])
        )
        content[at : at + data.draw(st.integers(0, 6))] = piece
    file = io.BytesIO(bytes(content))
    runs = list(all_runs([file], Tally(), Filter()))
    assert last_runs([file], 5, Tally()) is not None
    for start in last_starts([file], 5, Tally()):
        assert start.runs
    for run in runs:
        assert run in start_of([file], run, Tally()).runs
