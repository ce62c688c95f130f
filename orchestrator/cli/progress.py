"""The live display of a run: what it does now, for how long, and how far it has come."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from orchestrator.events import (
    TERMINAL,
    DatabaseReady,
    DdlBlocked,
    Event,
    LockAcquired,
    LockWaiting,
    RevisionApplied,
    RevisionRunning,
    RevisionStarted,
    RunCancelled,
    RunFailed,
    RunStarted,
    StateObserved,
    TaskStarted,
    TaskSucceeded,
    Warned,
    to_dict,
)
from orchestrator.results import to_jsonable
from orchestrator.timeline.wording import blocker, brief, duration, printable, process, short

_FRAMES_A_SECOND: Final = 10
_WIDEST_BAR: Final = 48
_INDENT: Final = 14
"""Cells before the text: the spinner and the seconds."""
_ENDS: Final = {DatabaseReady: ("✔", "green"), RunCancelled: ("!", "bold magenta")}


async def show(events: AsyncIterator[Event], console: Console, *, quiet: bool) -> None:
    """Show a run until its events end: live on a terminal, else one plain line for each event.

    On a terminal the display gives way to one line that says how the run ended. Why it failed is
    left to whoever tells the error. With `quiet` nothing is printed. Colours are the console's
    matter: it knows `NO_COLOR`.
    """
    if quiet:
        async for _ in events:
            pass
    elif console.is_terminal and not console.is_dumb_terminal:
        await _show_live(events, console)
    else:
        await _show_lines(events, console)


async def _show_lines(events: AsyncIterator[Event], console: Console) -> None:
    began_at = None
    async for event in events:
        began_at = event.at if began_at is None else began_at
        offset = (event.at - began_at).total_seconds()
        console.print(Text(f"{offset:>+9.3f} s  {_sentence(event)}"), soft_wrap=True)


async def _show_live(events: AsyncIterator[Event], console: Console) -> None:
    ascii_only = not console.encoding.lower().startswith("utf")
    display = _Display(ascii_only=ascii_only)
    last: Event | None = None
    # The refreshing thread keeps the seconds running while the event loop waits for events.
    with Live(
        console=console,
        get_renderable=partial(display.render, console),
        refresh_per_second=_FRAMES_A_SECOND,
        transient=True,
    ) as live:
        async for event in events:
            last = event
            if isinstance(event, Warned):
                console.print(Text.assemble(("! ", "yellow"), _sentence(event)), soft_wrap=True)
            display.tell(event)
            live.refresh()
    if isinstance(last, TERMINAL) and not isinstance(last, RunFailed):
        mark, style = _ENDS[type(last)]
        if ascii_only:
            mark = "*"
        console.print(Text.assemble((f"{mark} ", style), _sentence(last)), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Phase:
    """What the run does since when (of the monotonic clock), and how much of it is done."""

    text: str
    since: float
    style: str = ""
    done: int = 0
    total: int = 0
    detail: str = ""


class _Display:
    """What is known of the run so far. Told by one thread, and rendered by another."""

    def __init__(self, *, ascii_only: bool = False) -> None:
        self._spinner = Spinner("line" if ascii_only else "dots", style="blue")
        self._overflow: Final = "crop" if ascii_only else "ellipsis"
        # One reference, replaced as a whole, so that the other thread never sees half of it.
        self._now = _Phase("looking at the database", time.monotonic())
        self._state = ""
        self._kept_out = ""
        self._began = time.monotonic()

    def tell(self, event: Event) -> None:
        now = time.monotonic()
        match event:
            case RunStarted():
                self._began = now
            case StateObserved():
                self._state = f"the database is {printable(event.state)}"
            case LockWaiting() | DdlBlocked():
                self._wait(event, now - event.waited_seconds)
            case LockAcquired():
                self._now = _Phase("looking at the database, under the lock", now)
            case TaskStarted():
                self._now = _Phase(printable(event.task), now, "blue")
            case RevisionStarted():
                about = printable(f"{event.revision} {event.description}".strip())
                text = f"{printable(event.task)} {event.position} of {event.total}: {about}"
                done, total = event.position - 1, event.total
                self._now = _Phase(text, now, "blue", done, total, self._kept_out)
            case RevisionRunning():
                self._now = replace(self._now, detail=_at(event))
            case RevisionApplied():
                self._kept_out = ""
                self._now = replace(self._now, done=event.position, detail="")
            case TaskSucceeded():
                self._state = ""
                self._now = _Phase("looking whether it has lasted", now)

    def _wait(self, event: LockWaiting | DdlBlocked, since: float) -> None:
        if isinstance(event, LockWaiting):
            self._now = _Phase(_waiting_for(event), since, "yellow")
        else:
            by = _blocked(event)
            self._now = _Phase(_kept_out(event), since, "yellow", detail=by)
            self._kept_out = f"try {event.attempt + 1}, {by}"

    def render(self, console: Console) -> Table:
        phase, state, now = self._now, self._state, time.monotonic()
        what = f"{phase.text} ({state})" if state and not phase.total else phase.text
        lines = Table.grid(padding=(0, 1))
        lines.add_column(min_width=1)
        lines.add_column(min_width=9, no_wrap=True, justify="right")
        lines.add_column(no_wrap=True, overflow=self._overflow)
        spent = duration(max(0.0, now - phase.since))
        about = Text(what, style=phase.style)
        about.truncate(max(8, console.width - _INDENT), overflow=self._overflow)
        lines.add_row(self._spinner, spent, about)
        if phase.detail:
            detail = Text(phase.detail, style="bright_black")
            detail.truncate(max(8, console.width - _INDENT), overflow=self._overflow)
            lines.add_row("", "", detail)
        if phase.total:
            bar = ProgressBar(
                total=phase.total,
                completed=phase.done,
                width=max(8, min(_WIDEST_BAR, console.width - _INDENT - 14)),
                complete_style="blue",
                finished_style="green",
            )
            left = Text(f"{phase.total - phase.done} to go", style="bright_black")
            row = Table.grid(padding=(0, 1))
            row.add_row(bar, left)
            lines.add_row("", Text(duration(now - self._began), style="bright_black"), row)
        return lines


def _at(event: RevisionRunning) -> str:
    """What a long revision is at, and how far the server is with it."""
    percent = f" {event.percent:.0f} %" if event.percent is not None else ""
    phase = f"{printable(event.phase)}{percent}: " if event.phase else ""
    return f"{phase}{printable(event.statement or '')}"


def _kept_out(event: DdlBlocked) -> str:
    again = duration(event.retry_in_seconds)
    return f"kept out; try {event.attempt + 1} in {again}: {printable(event.statement)}"


def _blocked(event: DdlBlocked) -> str:
    by = ", ".join(blocker(to_jsonable(one)) for one in event.blockers) or "somebody"
    return f"in the way: {by}"


def _waiting_for(event: LockWaiting) -> str:
    holder = event.holder
    if event.reason:
        return f"waiting for the database: {printable(event.reason)}"
    if event.lock == "database":
        at_work = process(to_jsonable(holder)) if holder is not None else "nobody"
        return f"waiting for the database to reach its target; {at_work} is at work"
    if holder is None:
        return "waiting for the lock, whose holder is not known yet"
    release = f", release {printable(holder.release)}" if holder.release else ""
    revision = f", at revision {printable(holder.revision)}" if holder.revision else ""
    who = process(to_jsonable(holder))
    blocked = f", kept out by {printable(holder.blocked_by)}" if holder.blocked_by else ""
    return f"waiting for {who}, run {short(holder.run_id)}{release}{revision}{blocked}"


def _sentence(event: Event) -> str:
    values = to_dict(event)
    return brief(values["event"], values)
