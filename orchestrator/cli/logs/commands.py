"""The commands of `orchestrator logs`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperGroup

from orchestrator.cli import options
from orchestrator.cli.event_text import printable
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

_PIPE_COLUMNS: Final = 100


class _RunsByDefault(TyperGroup):
    """`orchestrator logs`, with options or without, is `orchestrator logs runs`."""

    # Any: which class of context that is depends on the version of Typer.
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
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
def runs(
    count: logs_options.Count = 20,
    since: logs_options.Since = None,
    until: logs_options.Until = None,
    outcome: logs_options.ByOutcome = None,
    led: logs_options.Led = False,
    host: logs_options.ByHost = None,
    database: logs_options.ByDatabase = None,
    journal: logs_options.JournalFiles = None,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    json: options.Json = False,
) -> None:
    """The last runs, newest last: who ran, who led, who waited, and how it ended."""
    wanted = Filter(
        since=since, until=until, outcome=outcome, led=led, host=host, database=database
    )
    with (
        errors_reported(as_json=json, verbose=False),
        reading(_journals(journal, config, database_url, script_location)) as source,
    ):
        if wanted == Filter():
            found = last_runs(source.files, count, source.tally)
        else:
            found = wanted_runs(source.files, count, source.tally, wanted)
        if json:
            output.print_json({"runs": to_jsonable(found), **_met(source)})
        elif found:
            print_runs(output.console(), found)
        else:
            what = "run" if wanted == Filter() else "such run"
            output.tell_nothing_found(what, str(source.journals))


@app.command()
def show(
    run: logs_options.RunId,
    journal: logs_options.JournalFiles = None,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    json: options.Json = False,
) -> None:
    """The whole story of one run."""
    with (
        errors_reported(as_json=json, verbose=False),
        reading(_journals(journal, config, database_url, script_location)) as source,
    ):
        story = find_story(source.files, run, source.journals, source.tally)
        if json:
            output.print_json(
                {
                    "run": to_jsonable(story.run),
                    "events": [entry.values for entry in story.entries],
                    "leader": to_jsonable(story.leader),
                    "waiters": to_jsonable(story.waiters),
                    **_met(source),
                }
            )
        else:
            print_story(output.console(), story)


@app.command()
def starts(
    count: logs_options.Count = 20,
    since: logs_options.Since = None,
    until: logs_options.Until = None,
    database: logs_options.ByDatabase = None,
    journal: logs_options.JournalFiles = None,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    json: options.Json = False,
) -> None:
    """The last starts, newest last: runs of one database that overlap form one."""
    wanted = Filter(since=since, until=until, database=database)
    with (
        errors_reported(as_json=json, verbose=False),
        reading(_journals(journal, config, database_url, script_location)) as source,
    ):
        if wanted == Filter():
            found = last_starts(source.files, count, source.tally)
        else:
            found = wanted_starts(source.files, count, source.tally, wanted)
        if json:
            output.print_json({"starts": to_jsonable(found), **_met(source)})
        elif found:
            print_starts(output.console(), found)
        else:
            what = "start" if wanted == Filter() else "such start"
            output.tell_nothing_found(what, str(source.journals))


@app.command()
def timeline(
    start: logs_options.StartId = None,
    svg: logs_options.Svg = None,
    html: logs_options.Html = None,
    journal: logs_options.JournalFiles = None,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    json: options.Json = False,
) -> None:
    """The picture of one start: a row for each process, time from left to right."""
    with (
        errors_reported(as_json=json, verbose=False),
        reading(_journals(journal, config, database_url, script_location)) as source,
    ):
        found = _start(source, start)
        if found is not None:
            _write(svg, found, to_svg)
            _write(html, found, to_html)
        if json:
            rows = [] if found is None else rows_of(found)
            length = None if found is None else length_of(found)
            output.print_json(
                {
                    "start": to_jsonable(found),
                    "length_seconds": length,
                    "rows": to_jsonable(rows),
                    **_met(source),
                }
            )
        elif found is None:
            output.tell_nothing_found("start", str(source.journals))
        elif svg is None and html is None:
            console = output.console()
            known = console.is_terminal or "COLUMNS" in os.environ
            width = console.width if known else _PIPE_COLUMNS
            for line in picture(found, width, ascii_only=output.ascii_only(console)):
                print_cut(console, line)


@app.command()
def revisions(
    count: logs_options.Count = 20,
    since: logs_options.Since = None,
    until: logs_options.Until = None,
    database: logs_options.ByDatabase = None,
    journal: logs_options.JournalFiles = None,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    json: options.Json = False,
) -> None:
    """What each revision has cost so far, the slowest first: what to watch at the next deploy."""
    wanted = Filter(since=since, until=until, database=database)
    with (
        errors_reported(as_json=json, verbose=False),
        reading(_journals(journal, config, database_url, script_location)) as source,
    ):
        found = revisions_of(all_runs(source.files, source.tally, wanted))
        if json:
            output.print_json({"revisions": to_jsonable(found[:count]), **_met(source)})
        elif found:
            print_revisions(output.console(), found[:count], len(found) - count)
        else:
            output.tell_nothing_found("applied revision", str(source.journals))


@app.command()
def follow(
    journal: logs_options.JournalFiles = None,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    json: options.Json = False,
) -> None:
    """New events as they come, one line each, until interrupted."""
    tally = Tally()
    with errors_reported(as_json=json, verbose=False):
        journals = _journals(journal, config, database_url, script_location)
        code = follow_journals(journals, as_json=json, tally=tally)
    output.tell_unreadable(tally)
    raise typer.Exit(code)


def _journals(
    named: Sequence[str] | None,
    config: Path | None,
    database_url: str | None,
    script_location: str | None,
) -> Journals:
    return journal_paths(
        named or (),
        config=config,
        database_url=database_url,
        script_location=script_location,
    )


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
