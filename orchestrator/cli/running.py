"""The commands that work on the database: run, wait, create, stamp, upgrade, downgrade."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from orchestrator.cli import options
from orchestrator.cli.options import make_orchestrator
from orchestrator.cli.output import errors_reported, failed_before_running, stdout
from orchestrator.cli.performing import perform
from orchestrator.decision.plan import Command

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
    perform(orchestrator, Command.RUN, json=json, quiet=quiet, verbose=verbose)


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
    perform(orchestrator, Command.RUN, json=json, quiet=quiet, verbose=verbose)


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
    report = perform(
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
    perform(
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
    perform(orchestrator, Command.UPGRADE, revision, json=json, quiet=quiet, verbose=verbose)


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
    perform(orchestrator, Command.DOWNGRADE, revision, json=json, quiet=quiet, verbose=verbose)
