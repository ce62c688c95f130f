"""A journal that keeps itself in bounds, while many processes write it, read it and follow it."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.logs.files import Journals, reading
from orchestrator.host.directory import open_shared
from orchestrator.host.rotation import rotate
from orchestrator.journal.follower import Follower
from orchestrator.journal.generations import older
from orchestrator.journal.reader import Tally, all_runs
from orchestrator.journal.writer import Journal, Origin
from orchestrator.timeline.filter import Filter
from orchestrator.timeline.runs import Run
from tests.journals import DEADLINE_SECONDS, RunOfOneProcess, found_current, led

MOMENT = datetime(2026, 1, 5, tzinfo=UTC)
WRITERS = 16
ROUNDS = 10
RUNS = 25
MAX_BYTES = 20_000

ORIGIN = Origin(host="web-1", pid=4711, database="sqlite:///app.db", release=None)


def opened(path: Path, max_bytes: int = MAX_BYTES) -> Journal:
    """The journal as a run opens it."""
    return Journal(path, ORIGIN, opener=open_shared, max_bytes=max_bytes, rotate=rotate)


def tell(journal: Journal, run_id: str) -> None:
    """All that one run says."""
    told = tuple(found_current())
    for event in RunOfOneProcess(run_id=run_id, began_at=MOMENT, told=told).events:
        journal(event)


def write(path: Path, run_id: str, max_bytes: int = MAX_BYTES) -> None:
    journal = opened(path, max_bytes)
    assert journal.unrotated is None
    tell(journal, run_id)
    journal.close()


def fill(path: Path, run_id: str = "full") -> None:
    """Make the journal longer than it may be, by runs of their own."""
    number = 0
    while not path.exists() or path.stat().st_size <= MAX_BYTES:
        write(path, f"{run_id}-{number}", max_bytes=0)
        number += 1


def runs_in(*paths: Path) -> list[Run]:
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("rb")) for path in paths]
        tally = Tally()
        runs = list(all_runs(files, tally, Filter()))
    assert tally.unreadable_lines == 0
    return runs


def ids(runs: Sequence[Run]) -> list[str]:
    return [run.run_id for run in runs]


def inode(path: Path) -> int:
    return path.stat().st_ino


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


# Bounds


def test_a_journal_that_is_too_long_is_rotated_by_who_opens_it(path: Path) -> None:
    """It becomes the older generation, and the one before that is dropped."""
    fill(path, "first")
    write(path, "second")
    assert all(run.run_id.startswith("first") for run in runs_in(older(path)))
    assert ids(runs_in(path)) == ["second"]
    fill(path, "third")
    write(path, "fourth")
    assert ids(runs_in(older(path)))[:2] == ["second", "third-0"]
    assert ids(runs_in(path)) == ["fourth"]
    assert sorted(path.parent.iterdir()) == [path, older(path)]


def test_a_journal_within_its_bounds_is_left(path: Path) -> None:
    """Also one that is just as long as it may be, and any where no bound is set."""
    fill(path)
    size = path.stat().st_size
    write(path, "exact", max_bytes=size)
    write(path, "unbounded", max_bytes=0)
    assert os.listdir(path.parent) == [path.name]


def test_a_run_ends_in_the_generation_in_which_it_began(path: Path) -> None:
    """One rotation later it is all there; dropped is what it says after two."""
    fill(path)
    journal = opened(path, max_bytes=0)
    write(path, "next")
    tell(journal, "slow")
    assert ids(runs_in(older(path), path))[-2:] == ["slow", "next"]
    fill(path)
    write(path, "last")
    tell(journal, "later")
    journal.close()
    assert journal.loss is None
    assert not {"slow", "later"} & set(ids(runs_in(older(path), path)))


def test_rotation_from_outside_goes_on_to_work(path: Path) -> None:
    """Rename, with and without create, and truncation: the next run writes the file of the name."""
    fill(path)
    path.rename(path.with_name("old"))
    write(path, "one")
    assert ids(runs_in(path)) == ["one"]
    path.rename(path.with_name("older"))
    path.touch()
    write(path, "two")
    os.truncate(path, 0)
    write(path, "three")
    assert ids(runs_in(path)) == ["three"]
    assert not older(path).exists()


@pytest.mark.parametrize("meanwhile", ["renamed", "rotated", "emptied", "deleted"])
def test_what_happens_between_the_look_and_the_lock(path: Path, meanwhile: str) -> None:
    """Whoever finds the file too long looks again under the lock, and drops no younger one."""
    fill(path)
    long_file = inode(path)

    def late(at: Path, descriptor: int, max_bytes: int) -> bool:
        if meanwhile == "emptied":
            os.truncate(at, 0)
        elif meanwhile == "rotated":
            write(at, "of another")
        elif meanwhile == "renamed":
            at.rename(older(at))
        else:
            at.unlink()
        return rotate(at, descriptor, max_bytes)

    journal = Journal(path, ORIGIN, opener=open_shared, max_bytes=MAX_BYTES, rotate=late)
    tell(journal, "late")
    journal.close()

    assert ids(runs_in(path)) == (["of another"] if meanwhile == "rotated" else []) + ["late"]
    if meanwhile in ("renamed", "rotated"):
        assert inode(older(path)) == long_file
    else:
        assert not older(path).exists()


def test_who_is_killed_while_rotating_leaves_what_the_next_one_takes_up(path: Path) -> None:
    """At whatever step: nothing of the journal is lost, and its name always leads to a file."""
    steps = 0
    for step in range(20):
        fill(path, f"a{step}")
        write(path, f"b{step}")
        fill(path, f"c{step}")
        kept = ids(runs_in(path))
        pid = os.fork()
        if pid == 0:
            try:
                _die_at(step)
                write(path, f"d{step}")
                os._exit(0)
            finally:  # never on into the suite
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        assert code in (0, 9)
        found = ids(runs_in(path)) if not older(path).exists() else ids(_distinct(path))
        assert Counter(found) >= Counter(kept)
        write(path, f"e{step}")
        assert Counter(ids(_distinct(path))) >= Counter([*kept, f"e{step}"])
        assert sorted(path.parent.iterdir()) == [path, older(path)]
        if code == 0:
            break
        steps += 1
    assert steps >= 5


def _die_at(step: int) -> None:
    """Let this process die at that call of those by which a file is rotated."""
    calls = iter(range(100))

    def dying(real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if next(calls) == step:
                os._exit(9)
            return real(*arguments, **options)

        return call

    for name in ("fchown", "fchmod", "unlink", "link", "rename"):
        setattr(os, name, dying(getattr(os, name)))


def _distinct(path: Path) -> list[Run]:
    """The runs of both generations; of one file, where both names lead to it."""
    both = {inode(older(path)): older(path), inode(path): path}
    return runs_in(*both.values())


# Many writers


@contextmanager
def processes(target: Callable[..., None], *arguments: object) -> Iterator[Barrier]:
    """Sixteen processes that have begun; whoever calls is the seventeenth at their barrier."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    barrier = context.Barrier(WRITERS + 1)
    started = [
        context.Process(target=target, args=(number, barrier, *arguments), daemon=True)
        for number in range(WRITERS)
    ]
    for process in started:
        process.start()
    yield barrier
    for process in started:
        process.join(DEADLINE_SECONDS)
        assert process.exitcode == 0


def _meet(number: int, barrier: Barrier, paths: Sequence[Path]) -> None:
    """In each journal write a run that began when all had found it too long."""

    def rotate_at_once(path: Path, descriptor: int, max_bytes: int) -> bool:
        barrier.wait(DEADLINE_SECONDS)
        return rotate(path, descriptor, max_bytes)

    for path in paths:
        journal = Journal(
            path, ORIGIN, opener=open_shared, max_bytes=MAX_BYTES, rotate=rotate_at_once
        )
        tell(journal, f"new-{number}")
        journal.close()


def test_sixteen_processes_that_find_it_too_long_at_once_rotate_it_once(tmp_path: Path) -> None:
    """Nothing that was written before or since is lost: there is one rotation, and not two."""
    paths = []
    for number in range(ROUNDS):
        path = tmp_path / str(number) / "journal.jsonl"
        path.parent.mkdir()
        fill(path)
        paths.append(path)
    before = sorted(ids(runs_in(paths[0])))
    with processes(_meet, paths) as barrier:
        for _ in paths:
            barrier.wait(DEADLINE_SECONDS)

    for path in paths:
        runs = runs_in(older(path), path)
        assert sorted(ids(runs)) == before + sorted(f"new-{number}" for number in range(WRITERS))
        assert {run.outcome for run in runs} == {"ready"}
        assert older(path).stat().st_size > MAX_BYTES
        assert sorted(path.parent.iterdir()) == [path, older(path)]


def _write_on(number: int, barrier: Barrier, path: Path, said: Path) -> None:
    """Write run upon run; say into which file each was written, and how long that is at the end."""
    barrier.wait(DEADLINE_SECONDS)
    files: dict[int, int] = {}
    lines = []
    for turn in range(RUNS):
        journal = opened(path)
        file = os.fstat(journal._descriptor).st_ino
        if file not in files:
            files[file] = os.dup(journal._descriptor)  # so that no other file gets its number
        tell(journal, f"{number}-{turn}")
        journal.close()
        lines.append(f"{file} {number}-{turn}")
    barrier.wait(DEADLINE_SECONDS)
    sizes = [f"{file} {os.fstat(descriptor).st_size}" for file, descriptor in files.items()]
    (said / f"{number}.runs").write_text("\n".join(lines))
    (said / f"{number}.sizes").write_text("\n".join(sizes))
    barrier.wait(DEADLINE_SECONDS)


def _said(directory: Path, kind: str) -> list[tuple[int, str]]:
    lines = [line for file in directory.glob(f"*.{kind}") for line in file.read_text().split("\n")]
    return [(int(file), value) for file, _, value in (line.partition(" ") for line in lines)]


def test_sixteen_processes_write_while_it_rotates_again_and_again(tmp_path: Path) -> None:
    """No line is lost of a run that began after the last rotation, or after the last but one.

    And no file is rotated before it is full: so much is kept at least.
    """
    path = tmp_path / "journal" / "journal.jsonl"
    path.parent.mkdir()
    with processes(_write_on, path, tmp_path) as barrier:
        for _ in range(3):
            barrier.wait(DEADLINE_SECONDS)

    assert sorted(path.parent.iterdir()) == [path, older(path)]
    kept = {inode(path), inode(older(path))}
    written = _said(tmp_path, "runs")
    sizes = {file: int(size) for file, size in _said(tmp_path, "sizes")}
    assert len(written) == WRITERS * RUNS
    # A generation was dropped; how many is not told, as a file system gives inodes anew.
    assert len(sizes) > 2
    assert all(size > MAX_BYTES for file, size in sizes.items() if file != inode(path))
    runs = runs_in(older(path), path)
    assert sorted(ids(runs)) == sorted(run_id for file, run_id in written if file in kept)
    assert {run.outcome for run in runs} == {"ready"}


# Following


@contextmanager
def following(*paths: Path) -> Iterator[Callable[[], list[str]]]:
    follower = Follower(paths, Tally())
    yield lambda: [entry.run_id for entry in follower.poll() if entry.name == "run_started"]
    follower.close()


def test_following_goes_through_rotations(path: Path) -> None:
    """Also through one that was begun and over between two looks."""
    write(path, "old")
    with following(path) as new:
        assert new() == []
        fill(path, "a")
        write(path, "b")
        assert new()[-1] == "b"
        fill(path, "c")
        write(path, "d")
        fill(path, "e")
        write(path, "f")
        seen = new()
        assert {"c-0", "d", "e-0", "f"} < set(seen)
        assert len(seen) == len(set(seen))
        assert new() == []


def test_following_begins_in_both_generations(path: Path) -> None:
    """A run that goes on in the older one is told; once, also where both are named."""
    fill(path)
    slow = opened(path, max_bytes=0)
    write(path, "before")
    for paths in ([path], [older(path), path]):
        with following(*paths) as new:
            assert new() == []
            tell(slow, "slow")
            write(path, "new")
            assert sorted(new()) == ["new", "slow"]
    slow.close()


def test_following_what_an_older_generation_alone_is_there_of(path: Path) -> None:
    """After a rotation from outside nobody may have written yet."""
    fill(path)
    path.rename(older(path))
    with following(path) as new:
        assert new() == []
        write(path, "first")
        assert new() == ["first"]


def _rotating_after_the_first_open(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., Any] = Path.open

    def opened_first(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        file = real(*arguments, **options)
        fill(path, "a")
        write(path, "b")
        return file

    monkeypatch.setattr(Path, "open", opened_first)


def test_a_rotation_between_two_files_that_are_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is rotated at that instant is not missed."""
    fill(path, "old")
    write(path, "new")
    _rotating_after_the_first_open(path, monkeypatch)
    with reading(Journals((str(path),), named=True)) as read:
        found = ids(list(all_runs(read.files, Tally(), Filter())))
    assert "new" in found
    assert len(found) == len(set(found))


def test_a_rotation_between_two_files_that_are_followed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither when following begins nor when a rotation is noticed is one missed."""
    fill(path, "old")
    write(path, "new")
    slow = opened(path, max_bytes=0)
    _rotating_after_the_first_open(path, monkeypatch)
    with following(path) as new:
        tell(slow, "slow")
        assert "slow" in new()
        fill(path, "c")
        write(path, "d")
        _rotating_after_the_first_open(path, monkeypatch)
        seen = [*new(), *new()]
        assert {"d", "a-0", "b"} < set(seen)
        assert len(seen) == len(set(seen))
    slow.close()


def test_the_events_of_a_leader_are_whole_beside_a_rotation(path: Path) -> None:
    """A run of many events that lies in the older generation is read back as one."""
    fill(path)
    journal = opened(path, max_bytes=0)
    events = RunOfOneProcess(run_id="led", began_at=MOMENT, told=tuple(led())).events
    for event in events[:5]:
        journal(event)
    write(path, "current")
    for event in events[5:]:
        journal(event)
    journal.close()
    (run,) = (run for run in runs_in(older(path), path) if run.run_id == "led")
    assert (run.outcome, len(run.revisions)) == ("ready", 3)
