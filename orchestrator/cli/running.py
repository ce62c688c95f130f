"""The commands that work on the database: run, wait, create, stamp, upgrade, downgrade."""

from __future__ import annotations

import os
import re
import signal
from functools import partial
from typing import Annotated, Any, Final

import anyio
import typer
from typer.core import TyperCommand

from orchestrator.cli import options
from orchestrator.cli.options import make_orchestrator
from orchestrator.cli.output import (
    errors_reported,
    failed_before_running,
    plainly,
    print_error,
    print_json,
    stderr,
    stdout,
    stdout_kept_clean,
)
from orchestrator.cli.progress import show
from orchestrator.errors import OrchestratorError
from orchestrator.orchestrator import Orchestrator, Run
from orchestrator.plan import Command
from orchestrator.results import RunReport

_BACKWARDS: Final = re.compile(r"-\d+")

Revision = Annotated[str, typer.Argument(metavar="REV", show_default=True)]


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (run, wait, create):
        app.command()(command)
    for single in (stamp, upgrade, downgrade):
        app.command(cls=_TakesRevision)(single)


class _TakesRevision(TyperCommand):
    """A command whose argument may be `-1`, which looks like an option and is none."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put what is relative behind `--`, unless it is an option's value."""
        valued = {
            name
            for parameter in self.params
            if not getattr(parameter, "is_flag", False)
            for name in parameter.opts
        }
        relative = [
            position
            for position, text in enumerate(args)
            if _BACKWARDS.fullmatch(text)
            and "--" not in args[:position]
            and not valued.intersection(args[max(0, position - 1) : position])
        ]
        if relative:
            rest = [text for position, text in enumerate(args) if position not in relative]
            args = [*rest, "--", *(args[position] for position in relative)]
        return super().parse_args(ctx, args)


def run(
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    x_arg: options.XArg = None,
    tag: options.Tag = None,
    target: options.Target = None,
    bootstrap: options.Bootstrap = None,
    lock_timeout: options.LockTimeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Bring the database to its target, or wait until another process has.

    Safe to start in any number of processes at once: exactly one does the work. An empty
    database is filled by its revisions, or created from the metadata (`--bootstrap create`).
    """
    with errors_reported(as_json=json, verbose=verbose, wrap=failed_before_running("run")):
        orchestrator = make_orchestrator(
            config,
            database_url=database_url,
            script_location=script_location,
            x_args=x_arg or None,
            tag=tag,
            target=target,
            bootstrap=bootstrap,
            lock_timeout_seconds=lock_timeout,
        )
    _perform(orchestrator, Command.RUN, json=json, quiet=quiet, verbose=verbose)


def wait(
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    x_arg: options.XArg = None,
    tag: options.Tag = None,
    target: options.Target = None,
    lock_timeout: options.LockTimeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Wait until the database is at its target; never migrate, never take a lock.

    For processes that start beside a deploy job which runs `orchestrator run`.
    """
    with errors_reported(as_json=json, verbose=verbose, wrap=failed_before_running("run")):
        orchestrator = make_orchestrator(
            config,
            database_url=database_url,
            script_location=script_location,
            x_args=x_arg or None,
            tag=tag,
            target=target,
            lock_timeout_seconds=lock_timeout,
            mode="follow",
        )
    _perform(orchestrator, Command.RUN, json=json, quiet=quiet, verbose=verbose)


def create(
    no_stamp: Annotated[
        bool, typer.Option("--no-stamp", help="Leave the version table empty.")
    ] = False,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    x_arg: options.XArg = None,
    tag: options.Tag = None,
    lock_timeout: options.LockTimeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Create the tables of the metadata in an empty database, and stamp it as newest.

    Skips what only revisions make: seed rows, triggers, views.
    """
    with errors_reported(as_json=json, verbose=verbose, wrap=failed_before_running("create")):
        orchestrator = make_orchestrator(
            config,
            database_url=database_url,
            script_location=script_location,
            x_args=x_arg or None,
            tag=tag,
            lock_timeout_seconds=lock_timeout,
        )
    report = _perform(
        orchestrator,
        Command.CREATE,
        stamp_created=not no_stamp,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )
    if no_stamp and report.led and not json:
        stdout().print("Not stamped. Next: `orchestrator stamp heads`.")


def stamp(
    revision: Revision,
    force: Annotated[
        bool, typer.Option("--force", help="Stamp a database without tables, too.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take all version rows away first, unknown ones too.")
    ] = False,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    x_arg: options.XArg = None,
    tag: options.Tag = None,
    lock_timeout: options.LockTimeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Set the version rows to a revision (or `heads`, `base`) without running any."""
    with errors_reported(as_json=json, verbose=verbose, wrap=failed_before_running("stamp")):
        orchestrator = make_orchestrator(
            config,
            database_url=database_url,
            script_location=script_location,
            x_args=x_arg or None,
            tag=tag,
            lock_timeout_seconds=lock_timeout,
        )
    _perform(
        orchestrator,
        Command.STAMP,
        revision,
        force=force,
        purge=purge,
        json=json,
        quiet=quiet,
        verbose=verbose,
    )


def upgrade(
    revision: Revision = "heads",
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    x_arg: options.XArg = None,
    tag: options.Tag = None,
    lock_timeout: options.LockTimeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Run the revisions up to one: a revision, `heads`, or `+2` from where the database is."""
    with errors_reported(as_json=json, verbose=verbose, wrap=failed_before_running("upgrade")):
        orchestrator = make_orchestrator(
            config,
            database_url=database_url,
            script_location=script_location,
            x_args=x_arg or None,
            tag=tag,
            lock_timeout_seconds=lock_timeout,
        )
    _perform(orchestrator, Command.UPGRADE, revision, json=json, quiet=quiet, verbose=verbose)


def downgrade(
    revision: Revision,
    config: options.Config = None,
    database_url: options.DatabaseURL = None,
    script_location: options.ScriptLocation = None,
    x_arg: options.XArg = None,
    tag: options.Tag = None,
    lock_timeout: options.LockTimeout = None,
    json: options.Json = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Take back the revisions beyond one: a revision, `base`, or `-1` for the last one."""
    with errors_reported(as_json=json, verbose=verbose, wrap=failed_before_running("downgrade")):
        orchestrator = make_orchestrator(
            config,
            database_url=database_url,
            script_location=script_location,
            x_args=x_arg or None,
            tag=tag,
            lock_timeout_seconds=lock_timeout,
        )
    _perform(orchestrator, Command.DOWNGRADE, revision, json=json, quiet=quiet, verbose=verbose)


def _perform(
    orchestrator: Orchestrator,
    command: Command,
    revision: str | None = None,
    *,
    json: bool,
    quiet: bool,
    verbose: bool,
    **flags: bool,
) -> RunReport:
    """Run a command to its end, show how it goes, and leave with its exit code if it failed."""
    work = partial(
        _run_and_show,
        orchestrator,
        command,
        revision,
        flags,
        quiet=quiet or json,
        verbose=verbose,
    )
    with stdout_kept_clean():
        report, stopped_by = anyio.run(work)
    if json:
        print_json(report)
    else:
        for warning in report.warnings:
            stderr().print(f"[yellow]warning[/]: {plainly(warning)}")
        stdout().print(_summary(report), markup=True)
    if report.error is not None:
        raise typer.Exit(report.error.exit_code)
    if report.outcome == "cancelled":
        raise typer.Exit(128 + (stopped_by or signal.SIGTERM))
    return report


async def _run_and_show(
    orchestrator: Orchestrator,
    command: Command,
    revision: str | None,
    flags: dict[str, bool],
    *,
    quiet: bool,
    verbose: bool,
) -> tuple[RunReport, int | None]:
    stopped_by: list[int] = []
    run: Run | None = None
    try:
        async with anyio.create_task_group() as tasks:
            async with orchestrator.start(command, revision, **flags) as run:
                tasks.start_soon(_cancel_on_signal, run, stopped_by)
                await show(run.events(), stderr(), quiet=quiet)
            tasks.cancel_scope.cancel()
    except* OrchestratorError as group:
        for error in group.exceptions:
            if isinstance(error, OrchestratorError):
                hiding = [orchestrator.resources.hide]
                print_error(error, verbose=verbose, hiding=hiding)
    if run is None or run.report is None:
        raise RuntimeError("the run left no report")
    return run.report, stopped_by[0] if stopped_by else None


async def _cancel_on_signal(run: Run, stopped_by: list[int]) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            if stopped_by:
                # Asked twice: at once, and without a last word. An open transaction is gone.
                os._exit(128 + number)
            stopped_by.append(number)
            stderr().print("Stopping after the current revision. Once more stops at once.")
            run.cancel()


def _summary(report: RunReport) -> str:
    at = plainly(", ".join(report.versions) or "base")
    took = f"{report.duration_seconds:.2f} s"
    waited = f", waited {report.waited_seconds:.2f} s" if report.waited_seconds else ""
    number = len(report.applied)
    revisions = f"{number} revision{'s' if number != 1 else ''}"
    match report.outcome:
        case "ready" if report.led:
            tasks = " + ".join(task.task for task in report.tasks)
            did = f"{tasks}, {revisions}" if number else tasks
            return f"[bold green]ready[/] at {at}: {did} in {took}{waited}"
        case "ready":
            return f"[bold green]ready[/] at {at}: nothing to do, {took}{waited}"
        case "cancelled":
            kept = f"{revisions} kept" if number else "nothing was changed"
            return f"[bold yellow]cancelled[/] after {took}: {kept}"
        case _:
            kept = f"{revisions} kept" if number else "nothing was kept"
            return f"[bold red]failed[/] after {took}: {kept}"
