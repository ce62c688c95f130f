"""Tables of runs, starts and revisions for a terminal, as wide as it allows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator.timeline.figures import ready_after, took, waited
from orchestrator.timeline.revisions import RevisionHistory
from orchestrator.timeline.runs import Run
from orchestrator.timeline.starts import Start
from orchestrator.timeline.wording import count, duration, first_line, listed, printable, short

STYLES: Final = {
    "ready": "green",
    "failed": "bold red",
    "cancelled": "bold magenta",
    "unfinished": "bold magenta",
}
_ROLE_STYLES: Final = {"led": "bold blue", "waited": "yellow"}
_SHORT_REVISION: Final = 8
_LONG_REVISION: Final = 16
_SHORT_DATABASE: Final = 16
_BAR: Final = 20
_CUT_FIRST: Final = frozenset({"process", "from → to", "led by", "database", "description"})
"""The columns that give way where a terminal is too narrow."""


def print_runs(console: Console, runs: Sequence[Run]) -> None:
    """One line a run, newest last, and below them one line for each that failed."""
    _print_widest(
        console,
        [
            lambda: _runs(runs),
            lambda: _runs_in_brief(runs, times=True),
            lambda: _runs_in_brief(runs, times=False),
        ],
    )
    for run in runs:
        if run.error is not None:
            told = f"{printable(run.error.type)}: {first_line(run.error.message)}"
            line = Text.assemble((f"{short(run.run_id)} failed: ", STYLES["failed"]), told)
            print_cut(console, line)


def print_starts(console: Console, starts: Sequence[Start]) -> None:
    """One line a start, newest last."""
    _print_widest(console, [lambda: _starts(starts), lambda: _starts_in_brief(starts)])


_WATCHED_SECONDS: Final = 0.1
"""A revision that takes longer than this is worth an eye."""


def print_revisions(console: Console, revisions: Sequence[RevisionHistory], more: int) -> None:
    """One line a revision, the slowest first; then what to watch at the next deploy."""
    _print_widest(
        console,
        [lambda: _revisions(revisions, _LONG_REVISION, _BAR), lambda: _revisions(revisions, 12, 0)],
    )
    if more > 0:
        print_line(console, Text(f"and {count(more, 'revision')} that took no longer"))
    for revision in revisions:
        if revision.failed:
            failed = "once" if revision.failed == 1 else f"{revision.failed} times"
            print_line(console, Text(f"watch {printable(revision.revision)}: it failed {failed}"))
    slowest = revisions[0]
    if slowest.slowest_seconds is not None and slowest.slowest_seconds >= _WATCHED_SECONDS:
        spent = duration(slowest.slowest_seconds)
        run = short(slowest.slowest_run_id)
        told = f"watch {printable(slowest.revision)}: it took up to {spent} (run {run})"
        print_line(console, Text(told))


def print_line(console: Console, line: Text) -> None:
    """One line, however long: a terminal wraps it, and a pipe gets it whole."""
    console.print(line, soft_wrap=True)


def print_cut(console: Console, line: Text) -> None:
    """One line, cut at the width of a terminal, but whole on a pipe."""
    if console.is_terminal:
        console.print(line, no_wrap=True, overflow="ellipsis")
    else:
        print_line(console, line)


def versions(run: Run, length: int = _LONG_REVISION) -> str:
    """From which versions to which; one side only where nothing changed."""
    before = _versions(run.versions_before, length) or printable(run.state_before or "")
    if run.outcome != "ready":
        return before
    after = _versions(run.versions_after, length)
    return after if after == before or not before else f"{before} → {after or 'nothing'}"


def _runs(runs: Sequence[Run]) -> Table:
    table = _table("when (UTC)", "run", "process", "release", "role", "from → to")
    _add_columns(table, "applied", "waited", "took", justify="right")
    _add_columns(table, "outcome")
    for run in runs:
        table.add_row(
            f"{run.began_at:%Y-%m-%d %H:%M:%S}",
            short(run.run_id),
            _soft(_process(run, 40)),
            printable(run.release or ""),
            Text(run.role or "", style=_ROLE_STYLES.get(run.role or "", "")),
            _soft(versions(run)),
            _applied(run),
            waited(run),
            took(run),
            Text(run.outcome, style=STYLES[run.outcome]),
        )
    return table


def _runs_in_brief(runs: Sequence[Run], *, times: bool) -> Table:
    table = _table("when (UTC)", "run", "process", "what", "from → to")
    _add_columns(table, *(("applied", "waited") if times else ()), "took", justify="right")
    for run in runs:
        what = run.role if run.outcome == "ready" and run.role else run.outcome
        table.add_row(
            f"{run.began_at:%m-%d %H:%M:%S}",
            short(run.run_id),
            _soft(_process(run, 16)),
            Text(what, style=_ROLE_STYLES.get(what, STYLES[run.outcome])),
            _soft(versions(run, _SHORT_REVISION)),
            *((_applied(run), waited(run)) if times else ()),
            took(run),
        )
    return table


def _applied(run: Run) -> str:
    return str(len(run.applied) or "")


def _starts(starts: Sequence[Start]) -> Table:
    table = _table("when (UTC)", "start")
    _add_columns(table, "processes", justify="right")
    _add_columns(table, "led by")
    _add_columns(table, "ready after", "failed", justify="right")
    _add_columns(table, "database")
    for start in starts:
        table.add_row(
            f"{start.began_at:%Y-%m-%d %H:%M:%S}",
            short(start.start_id),
            str(len(start.runs)),
            _soft(_leaders(start, 40)),
            *_results(start),
            _soft(printable(start.database or "?")),
        )
    return table


def _starts_in_brief(starts: Sequence[Start]) -> Table:
    table = _table("when (UTC)", "start")
    _add_columns(table, "runs", justify="right")
    _add_columns(table, "led by")
    _add_columns(table, "ready", "failed", justify="right")
    _add_columns(table, "database")
    for start in starts:
        database = printable(start.database or "?")
        table.add_row(
            f"{start.began_at:%m-%d %H:%M:%S}",
            short(start.start_id),
            str(len(start.runs)),
            _soft(_leaders(start, 12)),
            *_results(start),
            _soft(_end(database, _SHORT_DATABASE)),
        )
    return table


def _leaders(start: Start, longest: int) -> str:
    led = [run for run in start.runs if run.run_id in start.leaders]
    return ", ".join(_process(run, longest) for run in led) or "nobody"


def _results(start: Start) -> tuple[Text, Text]:
    never = STYLES["failed"] if start.ready_seconds is None else ""
    return (
        Text(ready_after(start.ready_seconds), style=never),
        Text(str(start.failed or ""), style=STYLES["failed"]),
    )


def _revisions(revisions: Sequence[RevisionHistory], length: int, bar: int) -> Table:
    table = _table("revision", "description")
    _add_columns(table, "applied", "failed", "last", "slowest", justify="right")
    if bar:
        _add_columns(table, "")
    slowest = max((item.slowest_seconds or 0.0 for item in revisions), default=0.0)
    for item in revisions:
        back = " (downgrade)" if item.direction == "downgrade" else ""
        cells: list[str | Text] = [
            f"{_cut(printable(item.revision), length)}{back}",
            _soft(printable(item.description)),
            str(item.applied or ""),
            Text(str(item.failed or ""), style=STYLES["failed"]),
            "" if item.last_seconds is None else duration(item.last_seconds),
            "" if item.slowest_seconds is None else duration(item.slowest_seconds),
        ]
        share = (item.slowest_seconds or 0.0) / slowest if slowest else 0.0
        if bar:
            cells.append(Text("█" * round(share * bar), style="blue"))
        table.add_row(*cells)
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bright_black")
    _add_columns(table, *names)
    return table


def _add_columns(table: Table, *names: str, justify: Literal["left", "right"] = "left") -> None:
    for name in names:
        # Rich takes from the columns that may wrap before it takes from the others.
        table.add_column(_soft(name), justify=justify, no_wrap=name not in _CUT_FIRST)


def _soft(text: str) -> Text:
    """A cell of a column that gives way; it is cut instead of wrapped."""
    return Text(text, no_wrap=True, overflow="ellipsis")


def _print_widest(console: Console, tables: Sequence[Callable[[], Table]]) -> None:
    """Print the first table for which there is room, else the last, cut; on a pipe the first."""
    for make in tables:
        table = make()
        unlimited = console.options.update(width=100_000)
        width = table.__rich_measure__(console, unlimited).maximum
        if not console.is_terminal:
            console.width = max(console.width, width)
        if width <= console.width:
            break
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as printed:
        console.print(table)
    for line in printed.get().splitlines():
        print_line(console, Text(line.rstrip()))


def _process(run: Run, longest: int) -> str:
    """`host:pid`; of a long host name the end, which is what differs."""
    host = _end(printable(run.host or "?"), longest)
    return f"{host}:{'?' if run.pid is None else run.pid}"


def _end(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"…{text[1 - longest :]}"


def _versions(revisions: Sequence[str], length: int) -> str:
    return listed([_cut(printable(revision), length) for revision in revisions])


def _cut(revision: str, length: int) -> str:
    return revision if len(revision) <= length else f"{revision[: length - 1]}…"


def moment(at: datetime) -> str:
    """A moment to the millisecond, in UTC."""
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"
