"""Shows somebody on a terminal how far the work is that other processes do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

import anyio
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from orchestrator.cli.streams import stdout_lost
from orchestrator.errors import DatabaseUnavailable
from orchestrator.orchestrator import Orchestrator
from orchestrator.results import Inspection
from orchestrator.run.tailing import tail_journal
from orchestrator.timeline.board import Board
from orchestrator.timeline.progress import Progress
from orchestrator.timeline.wording import duration, printable

_EVERY_SECONDS: Final = 1.0
_FRAMES_A_SECOND: Final = 4
_WIDEST_BAR: Final = 48


@dataclass(slots=True)
class _Seen:
    """What is known now: by the last look, and by the journal."""

    found: Inspection
    unavailable: str | None = None
    board: Board = field(default_factory=Board)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to watch."""
        return self.found.at_target and not self.found.lock.held and self.unavailable is None

    @property
    def leader(self) -> Progress | None:
        """The run that holds the lock, as far as it has told."""
        holder = self.found.lock.holder
        return self.board.run(holder.run_id) if self.found.lock.held and holder else None

    @property
    def waiting(self) -> int:
        holder = self.found.lock.holder
        return self.board.waiting_for(holder.run_id) if self.found.lock.held and holder else 0


async def watch(
    orchestrator: Orchestrator,
    console: Console,
    first: Inspection,
    *,
    table_of: Callable[[Inspection], Table],
) -> Inspection:
    """Show it until the database is at its target, or nobody reads it; returns what was seen last.

    On a terminal in place; elsewhere a line for each change.
    """
    seen = _Seen(first)
    gone = partial(stdout_lost, console.file)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tail_journal, orchestrator.resources, seen.board.take_entry, anyio.Event())
        if console.is_terminal and not console.is_dumb_terminal:
            with Live(
                console=console,
                get_renderable=lambda: _picture(seen, table_of, console.width),
                refresh_per_second=_FRAMES_A_SECOND,
                transient=True,
            ):
                await _look_on(orchestrator, seen, gone, lambda: None)
        else:
            told = [""]

            def tell() -> None:
                if (line := _line(seen)) != told[0]:
                    told[0] = line
                    console.print(Text(line))
                    console.file.flush()

            await _look_on(orchestrator, seen, gone, tell)
        tasks.cancel_scope.cancel()
    return seen.found


async def _look_on(
    orchestrator: Orchestrator, seen: _Seen, gone: Callable[[], object], tell: Callable[[], None]
) -> None:
    tell()
    while not (seen.is_over or gone()):
        await anyio.sleep(_EVERY_SECONDS)
        try:
            seen.found = await orchestrator.inspect()
            seen.unavailable = None
        except DatabaseUnavailable as error:
            seen.unavailable = str(error)
        tell()


def _picture(seen: _Seen, table_of: Callable[[Inspection], Table], width: int) -> RenderableType:
    parts: list[RenderableType] = [table_of(seen.found)]
    now = datetime.now(UTC)
    if seen.unavailable is not None:
        parts.append(Text(printable(seen.unavailable), style="yellow"))
    run = seen.leader
    if run is None:
        latest = seen.board.latest
        if latest is not None and latest.phase == "failed":
            parts.append(Text(f"failed: {printable(latest.message or '')}", style="red"))
        return Group(*parts)
    rows = Table.grid(padding=(0, 1))
    for done in run.done[-5:]:
        rows.add_row(
            Text("✔", style="green"),
            _named(done.revision, done.description),
            Text(duration(done.duration_seconds), style="dim"),
        )
    if run.revision is not None and run.revision_began_at is not None:
        took = duration(max(0.0, (now - run.revision_began_at).total_seconds()))
        rows.add_row(Text("▸", style="blue"), _named(run.revision, run.description or ""), took)
        if run.statement:
            percent = f" {run.percent:.0f} %" if run.percent is not None else ""
            phase = f"{printable(run.server_phase)}{percent}: " if run.server_phase else ""
            rows.add_row("", Text(f"{phase}{printable(run.statement)}", style="dim"))
    parts += ["", rows]
    if run.total:
        parts.append(_bar(run, now, seen.waiting, width))
    return Group(*parts)


def _bar(run: Progress, now: datetime, waiting: int, width: int) -> Table:
    total = run.total or 0
    row = Table.grid(padding=(0, 1))
    lasts = duration(max(0.0, (now - run.began_at).total_seconds()))
    others = f", {waiting} waiting" if waiting else ""
    text = f"{run.position} of {total}, {lasts}{others}"
    bar = ProgressBar(
        total=total,
        completed=run.position,
        width=min(_WIDEST_BAR, max(1, width - len(text) - 1)),
        complete_style="blue",
        finished_style="green",
    )
    row.add_row(bar, Text(text, style="dim"))
    return row


def _named(revision: str, description: str) -> Text:
    return Text.assemble((printable(revision), "bold"), "  ", printable(description))


def _line(seen: _Seen) -> str:
    """All of it in a line that changes when something has."""
    found, run = seen.found, seen.leader
    if seen.unavailable is not None:
        return printable(seen.unavailable)
    parts = [f"{found.state}, at {', '.join(map(printable, found.versions)) or 'no version'}"]
    if run is not None and run.total:
        parts.append(f"{run.position} of {run.total} revisions")
    if run is not None and run.revision:
        parts.append(f"at {printable(run.revision)}")
    if found.lock.held and found.lock.holder is not None:
        parts.append(f"by {printable(found.lock.holder.host)} pid {found.lock.holder.pid}")
    if seen.waiting:
        parts.append(f"{seen.waiting} waiting")
    if found.lock.held is False and not found.at_target:
        parts.append("nobody is at work")
        latest = seen.board.latest
        if latest is not None and latest.phase == "failed":
            parts.append(
                f"the last run failed: {printable((latest.message or '').splitlines()[0])}"
            )
    return "; ".join(parts)
