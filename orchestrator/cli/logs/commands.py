"""The commands of `orchestrator logs`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperGroup

from orchestrator.cli import options
from orchestrator.cli.logs import options as logs_options
from orchestrator.cli.logs import output
from orchestrator.cli.logs.export import to_html, to_svg
from orchestrator.cli.logs.files import Journals, Reading, journal_paths, reading
from orchestrator.cli.logs.follow import follow as follow_journals
from orchestrator.cli.logs.picture import picture
from orchestrator.cli.logs.search import find_run, find_story
from orchestrator.cli.logs.story import print_story
from orchestrator.cli.logs.text import print_cut, print_revisions, print_runs, print_starts
from orchestrator.cli.output import errors_reported
from orchestrator.errors import ConfigurationError
from orchestrator.journal.reader import Tally, all_runs, last_runs, wanted_runs
from orchestrator.journal.starts import last_starts, start_of, wanted_starts
from orchestrator.results import to_jsonable
from orchestrator.timeline.filter import Filter
from orchestrator.timeline.revisions import revisions_of
from orchestrator.timeline.starts import Start, length_of, rows_of
from orchestrator.timeline.wording import printable

_PIPE_COLUMNS: Final = 100


class _RunsByDefault(TyperGroup):
    """`orchestrator logs`, with options or without, is `orchestrator logs runs`."""

    # Any: which class of context that is depends on the version of Typer.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        runs = not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names)
        if runs and not ctx.resilient_parsing:  # or a shell could complete no command
            args = ["runs", *args]
        return super().parse_args(ctx, args)


app: Final = typer.Typer(
    name="logs",
    cls=_RunsByDefault,
    help="What happened at past starts: who migrated, who waited, what failed, how long it took. "
    "Without a command: `runs`.",
    no_args_is_help=False,
)


@app.command()
@options.expanded
def runs(
    some: logs_options.Some,
    source: logs_options.Source,
    outcome: logs_options.ByOutcome = None,
    led: logs_options.Led = False,
    host: logs_options.ByHost = None,
) -> None:
    """The last runs, newest last: who ran, who led, who waited, and how it ended."""
    wanted = Filter(
        since=some.since,
        until=some.until,
        outcome=outcome,
        led=led,
        host=host,
        database=some.database,
    )
    with (
        errors_reported(as_json=source.json, verbose=False),
        reading(_journals(source)) as read,
    ):
        if wanted == Filter():
            found = last_runs(read.files, some.count, read.tally)
        else:
            found = wanted_runs(read.files, some.count, read.tally, wanted)
        if source.json:
            output.print_json({"runs": to_jsonable(found), **_met(read)})
        elif found:
            print_runs(output.console(), found)
        else:
            what = "run" if wanted == Filter() else "such run"
            output.tell_nothing_found(what, str(read.journals))


@app.command()
@options.expanded
def show(source: logs_options.Source, run: logs_options.RunId) -> None:
    """The whole story of one run."""
    with (
        errors_reported(as_json=source.json, verbose=False),
        reading(_journals(source)) as read,
    ):
        story = find_story(read.files, run, read.journals, read.tally)
        if source.json:
            output.print_json(
                {
                    "run": to_jsonable(story.run),
                    "events": [entry.values for entry in story.entries],
                    "leader": to_jsonable(story.leader),
                    "waiters": to_jsonable(story.waiters),
                    **_met(read),
                }
            )
        else:
            print_story(output.console(), story)


@app.command()
@options.expanded
def starts(some: logs_options.Some, source: logs_options.Source) -> None:
    """The last starts, newest last: the runs of one deploy, together."""
    wanted = Filter(since=some.since, until=some.until, database=some.database)
    with (
        errors_reported(as_json=source.json, verbose=False),
        reading(_journals(source)) as read,
    ):
        if wanted == Filter():
            found = last_starts(read.files, some.count, read.tally)
        else:
            found = wanted_starts(read.files, some.count, read.tally, wanted)
        if source.json:
            output.print_json({"starts": to_jsonable(found), **_met(read)})
        elif found:
            print_starts(output.console(), found)
        else:
            what = "start" if wanted == Filter() else "such start"
            output.tell_nothing_found(what, str(read.journals))


@app.command()
@options.expanded
def timeline(
    source: logs_options.Source,
    start: logs_options.StartId = None,
    svg: logs_options.Svg = None,
    html: logs_options.Html = None,
) -> None:
    """The picture of one start: a row for each process, time from left to right."""
    with (
        errors_reported(as_json=source.json, verbose=False),
        reading(_journals(source)) as read,
    ):
        found = _start(read, start)
        if found is not None:
            _write(svg, found, to_svg)
            _write(html, found, to_html)
        if source.json:
            rows = [] if found is None else rows_of(found)
            length = None if found is None else length_of(found)
            output.print_json(
                {
                    "start": to_jsonable(found),
                    "length_seconds": length,
                    "rows": to_jsonable(rows),
                    **_met(read),
                }
            )
        elif found is None:
            output.tell_nothing_found("start", str(read.journals))
            for path in filter(None, (svg, html)):
                output.tell(f"{printable(str(path))} is not written.")
        elif svg is None and html is None:
            console = output.console()
            known = console.is_terminal or "COLUMNS" in os.environ
            width = console.width if known else _PIPE_COLUMNS
            for line in picture(found, width, ascii_only=output.ascii_only(console)):
                print_cut(console, line)


@app.command()
@options.expanded
def revisions(some: logs_options.Some, source: logs_options.Source) -> None:
    """What each revision has cost so far, the slowest first: what to watch at the next deploy."""
    wanted = Filter(since=some.since, until=some.until, database=some.database)
    with (
        errors_reported(as_json=source.json, verbose=False),
        reading(_journals(source)) as read,
    ):
        found = revisions_of(all_runs(read.files, read.tally, wanted))
        if source.json:
            output.print_json({"revisions": to_jsonable(found[: some.count]), **_met(read)})
        elif found:
            print_revisions(output.console(), found[: some.count], len(found) - some.count)
        else:
            output.tell_nothing_found("applied revision", str(read.journals))


@app.command()
@options.expanded
def follow(source: logs_options.Source) -> None:
    """New events as they come, one line each, until interrupted."""
    tally = Tally()
    with errors_reported(as_json=source.json, verbose=False):
        code = follow_journals(_journals(source), as_json=source.json, tally=tally)
    output.tell_unreadable(tally)
    raise typer.Exit(code)


def _journals(source: logs_options.Source) -> Journals:
    where = options.Where(
        config=source.config,
        app=source.app,
        database_url=source.database_url,
        script_location=source.script_location,
        set=source.set,
    )
    return journal_paths(source.journal or (), where)


def _start(source: Reading, named: str | None) -> Start | None:
    if named is None:
        return next(iter(last_starts(source.files, 1, source.tally)), None)
    run = find_run(source.files, named, source.journals)
    return start_of(source.files, run, source.tally)


def _write(path: Path | None, start: Start, render: Callable[[Start], str]) -> None:
    if path is None:
        return
    try:
        path.write_text(render(start), encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error
    output.tell(f"{printable(str(path))} is written.")


def _met(source: Reading) -> dict[str, Any]:
    """What every JSON document says besides."""
    return {
        "journals": list(source.journals.paths),
        "unreadable_lines": source.tally.unreadable_lines,
    }
