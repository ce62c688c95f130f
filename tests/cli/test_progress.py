"""The live display of a run: on a terminal, on a pipe, and for nobody."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator, Iterable

import anyio
import pytest
from rich.console import Console

from orchestrator.cli import progress
from orchestrator.cli.progress import show
from orchestrator.events import (
    DdlBlocked,
    Event,
    LockWaiting,
    RevisionApplied,
    RevisionStarted,
    RunCancelled,
    RunStarted,
    TaskStarted,
)
from orchestrator.results import Blocker, Holder
from tests.journals import FIRST_START, RunOfOneProcess, Told, led, waited

pytestmark = pytest.mark.anyio
HOLDER = Holder(
    run_id="abcdef0123456789", host="web-9", pid=9, command="run", since=FIRST_START,
    release="2.0", revision="8c40e2b1559a",
)  # fmt: skip
ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3|4|9|10)\d[;m]")


def events_of(told: Iterable[Told]) -> list[Event]:
    return RunOfOneProcess(run_id="r", began_at=FIRST_START, told=tuple(told)).events


async def stream(events: Iterable[Event], pause_seconds: float = 0.0) -> AsyncIterator[Event]:
    for event in events:
        await anyio.sleep(pause_seconds)
        yield event


def a_console(*, terminal: bool, **more: object) -> tuple[Console, io.StringIO]:
    """A console, and what it writes; `encoding` is that of its file."""
    written = io.StringIO()
    environment = {"TERM": "xterm-256color", "COLUMNS": "80", **more}
    console = Console(
        file=written,
        force_terminal=terminal,
        _environ={name: str(value) for name, value in environment.items()},
        soft_wrap=True,
        highlight=False,
    )
    return console, written


def screen(written: str) -> list[str]:
    """What a terminal shows after this was written: as much of one as the display needs."""
    lines, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", written):
        if piece == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            lines[row] = f"\r{lines[row]}"  # the next text overwrites
        elif piece == "\x1b[2K":
            lines[row] = ""
        elif piece.endswith("A") and piece.startswith("\x1b["):
            row -= int(piece[2:-1])
        elif not piece.startswith("\x1b"):
            lines[row] = piece if lines[row].startswith("\r") else lines[row] + piece
    return [line.strip() for line in lines if line.strip()]


async def test_on_a_pipe_each_event_is_a_plain_line() -> None:
    """One line an event, with its offset, without any escape sequence, and none is wrapped."""
    console, written = a_console(terminal=False)
    events = events_of(led())
    await show(stream(events), console, quiet=False)
    lines = written.getvalue().splitlines()
    assert len(lines) == len(events)
    assert "\x1b" not in written.getvalue()
    assert lines[0].split() == [
        "+0.000",
        "s",
        "started:",
        "run",
        "to",
        "heads,",
        "waits",
        "at",
        "most",
        "5",
        "min",
        "00",
        "s",
    ]
    assert "upgrade 1/3: 3d1f0a9c77b2 create artists, albums and tracks ran in 0.42 s" in lines[6]
    assert lines[-1].endswith("ready at b7725d6e0f13 after 1.48 s: led, 3 revisions ran")


async def test_a_terminal_that_cannot_move_gets_plain_lines() -> None:
    """TERM=dumb is a terminal without a cursor to move: it gets what a pipe gets."""
    console, written = a_console(terminal=True, TERM="dumb")
    await show(stream(events_of(waited(HOLDER, 1.0))), console, quiet=False)
    assert ESCAPE_SEQUENCE.sub("", written.getvalue()).count("\n") == 5


async def test_on_a_terminal_it_ends_as_one_line() -> None:
    """The display goes when the run ends; what is left is one line that says how."""
    console, written = a_console(terminal=True)
    await show(stream(events_of(led())), console, quiet=False)
    assert screen(written.getvalue()) == [
        "✔ ready at b7725d6e0f13 after 1.48 s: led, 3 revisions ran"
    ]


async def test_a_cancelled_run_ends_with_a_mark_of_its_own() -> None:
    """And says what is durable."""
    console, written = a_console(terminal=True)
    await show(stream(events_of([(0.0, RunCancelled(applied=()))])), console, quiet=False)
    last = ESCAPE_SEQUENCE.sub("", written.getvalue().splitlines()[-1])
    assert last.strip() == "! cancelled; durable: nothing"


@pytest.mark.parametrize("terminal", [True, False])
async def test_why_a_run_failed_is_left_to_whoever_tells_the_error(terminal: bool) -> None:
    """It would be told twice."""
    console, written = a_console(terminal=terminal)
    await show(stream(events_of(led(fails=True))), console, quiet=False)
    shown = ESCAPE_SEQUENCE.sub("", written.getvalue())
    assert "The upgrade failed" not in shown
    assert ("failed with exit code 1" in shown) is not terminal


async def test_a_stream_without_an_end_leaves_no_last_line() -> None:
    """Where the run's own task was cut off, nothing is claimed."""
    console, written = a_console(terminal=True)
    await show(stream(events_of(led())[:3]), console, quiet=False)
    assert "✔" not in written.getvalue()
    assert "✘" not in written.getvalue()


async def test_while_it_waits_it_says_for_whom_and_how_long() -> None:
    """Host, pid, run, release and revision of the holder; the seconds run on between events."""
    display = progress._Display()
    display.tell(LockWaiting(lock="file", holder=HOLDER, waited_seconds=75.0))
    console, written = a_console(terminal=True, COLUMNS=120)
    console.print(display.render(console))
    shown = ESCAPE_SEQUENCE.sub("", written.getvalue())
    assert "waiting for web-9:9, run abcdef01, release 2.0, at revision 8c40e2b1559a" in shown
    assert "1 min 15 s" in shown


async def test_while_the_database_is_busy_it_says_why() -> None:
    """What keeps it busy, for as long as that lasts."""
    busy = LockWaiting(
        lock="database", holder=None, waited_seconds=4.0, reason="another process is writing to it"
    )
    display = progress._Display()
    display.tell(busy)
    console, written = a_console(terminal=True, COLUMNS=120)
    console.print(display.render(console))
    shown = ESCAPE_SEQUENCE.sub("", written.getvalue())
    assert "4.00 s waiting for the database: another process is writing to it" in shown


async def test_while_it_migrates_it_says_how_far_it_is() -> None:
    """Which revision of how many, its description, and a bar with what is left."""
    display = progress._Display()
    display.tell(TaskStarted(task="upgrade"))
    display.tell(
        RevisionStarted(task="upgrade", revision="8c40", description="cascade", position=2, total=5)
    )
    console, written = a_console(terminal=True)
    console.print(display.render(console))
    shown = ESCAPE_SEQUENCE.sub("", written.getvalue())
    assert "upgrade 2 of 5: 8c40 cascade" in shown
    assert "4 to go" in shown
    assert "━" in shown


async def test_what_was_in_the_way_is_told_at_the_next_try() -> None:
    """Between two tries the display would look as if all were well."""
    display = progress._Display()
    started = RevisionStarted(task="upgrade", revision="r2", description="", position=1, total=1)
    by = Blocker(pid=5, user="u", application="report", state=None, since=None, query=None)
    blocked = DdlBlocked(
        task="upgrade",
        revision="r2",
        statement="ALTER TABLE t",
        attempt=1,
        waited_seconds=2.0,
        retry_in_seconds=0.5,
        blockers=(by,),
    )

    def shown(event: Event) -> str:
        display.tell(event)
        console, written = a_console(terminal=True)
        console.print(display.render(console))
        return ESCAPE_SEQUENCE.sub("", written.getvalue())

    assert "report" not in shown(started)
    assert "ALTER TABLE t" in shown(blocked)
    assert "try 2, in the way: " in shown(started)
    assert "report" in shown(started)
    applied = RevisionApplied(
        task="upgrade", revision="r2", description="", position=1, total=1, duration_seconds=1.0
    )
    shown(applied)
    assert "in the way" not in shown(started)


@pytest.mark.parametrize("columns", [30, 80])
async def test_no_line_of_the_display_is_wider_than_the_terminal(columns: int) -> None:
    """A line that wraps would break the display that is drawn over it."""
    display = progress._Display()
    events = [
        LockWaiting(lock="file", holder=HOLDER, waited_seconds=1.0),
        RevisionStarted(
            task="upgrade", revision="x" * 40, description="y" * 200, position=2, total=5
        ),
    ]
    for event in events:
        display.tell(event)
        console, written = a_console(terminal=True, COLUMNS=columns)
        console.print(display.render(console))
        lines = ESCAPE_SEQUENCE.sub("", written.getvalue()).splitlines()
        assert max(map(len, lines)) <= columns


async def test_where_the_terminal_has_only_ascii() -> None:
    """The display, its last line included, has nothing else; what is too long is cut."""

    class Ascii(io.StringIO):
        encoding = "ascii"

    for columns in (30, 80):
        written = Ascii()
        console = Console(file=written, force_terminal=True, width=columns, soft_wrap=True)
        display = progress._Display(ascii_only=True)
        display.tell(LockWaiting(lock="file", holder=HOLDER, waited_seconds=1.0))
        console.print(display.render(console))
        display.tell(
            RevisionStarted(task="upgrade", revision="x" * 99, description="", position=2, total=5)
        )
        console.print(display.render(console))
        await show(stream(events_of(led()), 0.002), console, quiet=False)
        assert written.getvalue().isascii()


async def test_no_colour_where_none_is_wanted() -> None:
    """With NO_COLOR the display still moves, without a single colour; without it has some."""
    for environment, colours in ({"NO_COLOR": "1"}, False), ({}, True):
        console, written = a_console(terminal=True, **environment)
        await show(stream(events_of(led()), 0.002), console, quiet=False)
        assert ESCAPE_SEQUENCE.search(written.getvalue())
        assert bool(COLOUR.search(written.getvalue())) is colours


@pytest.mark.parametrize("terminal", [True, False])
async def test_quiet_prints_nothing_and_takes_every_event(terminal: bool) -> None:
    """The stream is read to its end, so that nobody who sends is left waiting."""
    console, written = a_console(terminal=terminal)
    taken = []

    async def counted() -> AsyncIterator[Event]:
        async for event in stream(events_of(led())):
            taken.append(event)
            yield event

    await show(counted(), console, quiet=True)
    assert written.getvalue() == ""
    assert len(taken) == 14


async def test_texts_of_others_cannot_drive_the_terminal() -> None:
    """Escape sequences and markup in a description are shown, not obeyed."""
    hostile = "\x1b]0;owned\x07[bold]\r\n"
    started = RunStarted(command=hostile, mode="m", target=hostile, lock_timeout_seconds=1.0)
    revision = RevisionStarted(
        task=hostile, revision=hostile, description=hostile, position=1, total=1
    )
    for terminal in (True, False):
        console, written = a_console(terminal=terminal, COLUMNS=200)
        await show(
            stream(events_of([(0, started), (1, revision), (2, RunCancelled(applied=()))])),
            console,
            quiet=False,
        )
        assert "\x1b]" not in written.getvalue()
        assert "\x07" not in written.getvalue()
        assert "\\x1b]0;owned\\x07[bold]" in written.getvalue()


async def test_a_failing_stream_leaves_the_terminal_as_it_was() -> None:
    """The cursor is shown again, and the error goes on to whoever called."""

    async def broken() -> AsyncIterator[Event]:
        yield events_of(led())[0]
        raise RuntimeError("the stream broke")

    console, written = a_console(terminal=True)
    with pytest.raises(RuntimeError, match="the stream broke"):
        await show(broken(), console, quiet=False)
    assert written.getvalue().rfind("\x1b[?25h") > written.getvalue().rfind("\x1b[?25l")
