"""The commands that only look: status and plan."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import anyio
import typer
from rich.table import Table

from orchestrator.cli import options
from orchestrator.cli.making import make_orchestrator
from orchestrator.cli.output import (
    errors_reported,
    plainly,
    print_json,
    print_remarks,
    print_sql,
    print_table,
    stderr,
    stdout,
    stdout_kept_clean,
    word_if_slow,
)
from orchestrator.orchestrator import Orchestrator
from orchestrator.results import Inspection, LockReport, Preview, Revision
from orchestrator.timeline.wording import count

_NOT_AT_TARGET: Final = 6
_NOT_BY_RUN: Final = {
    "require": '`mode` is "require", so `orchestrator run` refuses to start; '
    "`orchestrator run --mode migrate` does it.",
    "follow": '`mode` is "follow", so `orchestrator run` waits until another process has done it; '
    "`orchestrator run --mode migrate` does it.",
}
_COLOURS: Final = {"current": "green", "behind": "yellow", "absent": "yellow", "empty": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (status, plan):
        app.command()(options.expanded(command))


def status(
    where: options.Where,
    looking: options.Looking,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 6 if the database is not at its target.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Go on showing it, until the database is at its target."),
    ] = False,
) -> None:
    """Show what the database is at, what is pending, and who holds the lock. Touches nothing.

    With --watch it is shown again and again, with what is at work, who leads and how many wait.
    """
    if watch and looking.json:
        raise typer.BadParameter(
            "It is for people; `status --json` is one look.", param_hint="--watch"
        )
    with errors_reported(as_json=looking.json, verbose=looking.verbose) as hiding:
        orchestrator = make_orchestrator(where)
        print_remarks()
        hiding.append(orchestrator.resources.hide)
        with stdout_kept_clean(), word_if_slow(orchestrator.settings):
            inspection = anyio.run(orchestrator.inspect)
        if watch:
            inspection = _watched(orchestrator, inspection)
    if looking.json:
        print_json(inspection)
    else:
        print_table(_status_table(inspection))
        if inspection.refused:
            stdout().print(
                f"[bold red]`orchestrator run` refuses it[/]: {plainly(inspection.refused)}"
            )
    if check and not inspection.at_target:
        raise typer.Exit(_NOT_AT_TARGET)


def _watched(orchestrator: Orchestrator, first: Inspection) -> Inspection:
    from orchestrator.cli.watching import watch  # no other command shows that

    with stdout_kept_clean() as stream:
        console = stdout(stream)
        table_of = partial(_status_table, brief=True)
        return anyio.run(partial(watch, orchestrator, console, first, table_of=table_of))


def plan(
    where: options.Where,
    *,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the SQL instead, as `alembic upgrade --sql` does.")
    ] = False,
    downgrade: Annotated[
        str | None,
        typer.Option(help="Show what `orchestrator downgrade REV` would do.", metavar="REV"),
    ] = None,
    target: options.Target = None,
    bootstrap: options.Bootstrap = None,
    looking: options.Looking,
) -> None:
    """Show what `orchestrator run` would do now, and what goes by it. Touches nothing."""
    with errors_reported(as_json=looking.json, verbose=looking.verbose) as hiding:
        orchestrator = make_orchestrator(where, target=target, bootstrap=bootstrap)
        print_remarks()
        hiding.append(orchestrator.resources.hide)

        async def preview() -> Preview:
            return await orchestrator.plan(sql=sql, downgrade=downgrade)

        with stdout_kept_clean(), word_if_slow(orchestrator.settings):
            found = anyio.run(preview)
        if sql and not looking.json:
            print_sql(found.sql or "")
            if not found.tasks:
                stderr().print(plan_text(found))
    if looking.json:
        print_json(found)
    elif not sql:
        stdout().print(plan_text(found))
        if found.tasks and downgrade is None and orchestrator.settings.mode != "migrate":
            stdout().print(_NOT_BY_RUN[orchestrator.settings.mode])


def _status_table(found: Inspection, *, brief: bool = False) -> Table:
    """What was seen; `brief` counts what is pending instead of naming it."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    state = f"[bold {_COLOURS.get(found.state, 'red')}]{found.state}[/]"
    table.add_row("database", plainly(found.database))
    table.add_row("state", state)
    table.add_row("versions", _versions(found))
    table.add_row("heads", plainly(", ".join(found.heads) or "none: there is no revision file"))
    names = count(len(found.pending), "revision") if brief else _lines(found.pending)
    pending = "cannot be told" if found.unknown else names if found.pending else "none"
    table.add_row("pending", pending)
    if found.at_work is not None:
        table.add_row("at work", plainly(str(found.at_work)))
    table.add_row("lock", _lock(found.lock))
    return table


def _versions(found: Inspection) -> str:
    told = plainly(", ".join(found.versions) or "none")
    if not found.unknown:
        return told
    which = "it" if len(found.versions) == 1 else ", ".join(found.unknown)
    return f"{told} [red](no script has {plainly(which)})[/]"


def _lock(lock: LockReport) -> str:
    holder = plainly(str(lock.holder)) if lock.holder else "a process that has not told who it is"
    if lock.held is None:
        return f"[yellow]cannot be told from here[/]; last seen: {holder}"
    return f"[yellow]held[/] by {holder}" if lock.held else "[green]free[/]"


def plan_text(found: Preview) -> str:
    """A plan for people, with markup: what is done, by which revisions, and what goes."""
    if not found.tasks:
        return f"The database is {found.state}: nothing to do."
    tasks = ", then ".join(found.tasks)
    lines = [f"The database is {found.state}: [bold]{tasks}[/]"]
    if "downgrade" in found.tasks:
        lines = [f"[bold]{tasks}[/]:"]
    lines += [_lines(found.revisions)] if found.revisions else []
    lines += [
        f"[bold red]drops[/] {plainly(str(one))}  ({plainly(one.revision)})" for one in found.drops
    ]
    lines += [f"[yellow]note[/]: {plainly(found.remark)}"] if found.remark else []
    return "\n".join(lines)


def _lines(revisions: tuple[Revision, ...]) -> str:
    return "\n".join(
        f"[bold]{plainly(item.revision)}[/]  {plainly(item.description)}" for item in revisions
    )
