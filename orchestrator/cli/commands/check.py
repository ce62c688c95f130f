"""The command that compares the models with the database: check."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any, Final

import anyio
import typer

from orchestrator.cli import options
from orchestrator.cli.making import make_orchestrator
from orchestrator.cli.output import (
    errors_reported,
    plainly,
    print_json,
    stderr,
    stdout,
    stdout_kept_clean,
)
from orchestrator.errors import OrchestratorError
from orchestrator.orchestrator import Orchestrator
from orchestrator.results import Check

_DIFFER: Final = 6
_NEXT: Final = (
    "Write them into a revision: [bold]orchestrator revision --autogenerate[/]; or accept what is "
    "meant to differ:"
)
_STOP: Final = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(options.expanded(check))


def check(
    where: options.Where,
    *,
    against: Annotated[
        str,
        typer.Option(
            help="What the models are compared with: the database, or what the migrations make "
            "in a scratch database.",
            metavar="database|migrations",
            autocompletion=lambda: ["database", "migrations"],
        ),
    ] = "database",
    scratch_url: Annotated[
        str | None,
        typer.Option(
            help="SQLAlchemy URL of a scratch database that does not exist yet: it is made, and "
            "dropped. \\[default: a temporary file]",
            metavar="URL",
        ),
    ] = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="Write the differences to the file of accepted ones.")
    ] = False,
    accepted_differences: Annotated[
        Path | None, typer.Option(help="File of the differences that are accepted.", metavar="FILE")
    ] = None,
    target: options.Target = None,
    looking: options.Looking,
) -> None:
    """Tell how the models differ from the database; exit with 6 if they do. Touches nothing.

    With `--against migrations`, from what the revisions make of an empty database: the database
    itself is not looked at.
    """
    with errors_reported(as_json=looking.json, verbose=looking.verbose) as hiding:
        orchestrator = make_orchestrator(
            where, target=target, accepted_differences=accepted_differences
        )
        hiding.append(orchestrator.resources.hide)
        with stdout_kept_clean():
            found = anyio.run(_checked, orchestrator, against, scratch_url, accept)
    if looking.json:
        print_json(found)
    else:
        _tell(found, orchestrator.settings.accepted_differences, wrote=accept)
    if not found.passed:
        raise typer.Exit(_DIFFER)


async def _checked(
    orchestrator: Orchestrator,
    against: Any,
    scratch_url: str | None,
    accept: bool,
) -> Check:
    """The check, which a signal ends: what it has made for itself is taken away."""
    found: list[Check | OrchestratorError] = []
    stopped_by: list[int] = []
    with anyio.open_signal_receiver(*_STOP) as signals:
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                tasks.start_soon(_cancel_on_signal, signals, scope, stopped_by)
                try:
                    looked = await orchestrator.check(
                        against=against, scratch_url=scratch_url, accept=accept
                    )
                    found.append(looked)
                except OrchestratorError as error:  # which a group of tasks would wrap
                    found.append(error)
            tasks.cancel_scope.cancel()
    if not found:
        stderr().print("Stopped. The database was not changed.")
        raise typer.Exit(128 + stopped_by[0])
    if isinstance(found[0], OrchestratorError):
        raise found[0]
    return found[0]


async def _cancel_on_signal(
    signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope, stopped_by: list[int]
) -> None:
    async for number in signals:
        if stopped_by:  # asked twice: at once, though not without what is done at the end
            atexit._run_exitfuncs()
            os._exit(128 + number)
        stopped_by.append(number)
        stderr().print("Stopping. Once more stops at once.")
        scope.cancel()


def _tell(found: Check, file: Path | None, *, wrote: bool) -> None:
    new, accepted = len(found.differences), len(found.accepted)
    for one in found.differences:
        stdout().print(plainly(one.words))
    between = f"between the models and the {found.against}"
    if new:
        also = f", and {accepted} accepted" if accepted else ""
        stdout().print(f"[bold red]{_count(new)}[/] {between}{also}")
        named = "" if file is not None else " --accepted-differences FILE"
        stderr().print(f"{_NEXT} [bold]orchestrator check --accept{named}[/].")
    elif accepted:
        new_ones = "" if wrote else ", none new"
        stdout().print(f"[bold green]accepted[/]: {_count(accepted)} {between}{new_ones}")
    else:
        stdout().print(f"[bold green]equal[/]: no difference {between}")
    if wrote and accepted:
        stdout().print(
            f"They stand in {plainly(str(file))}. A check passes over them where "
            "`accepted_differences` names that file."
        )
    for line in found.outdated:
        stderr().print(f"[yellow]accepted, and not found any more[/]: {plainly(line)}")


def _count(number: int) -> str:
    return f"{number} difference{'s' if number != 1 else ''}"
