"""The commands of one task each: create, stamp, upgrade, downgrade."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Final

import anyio
import typer
from typer.core import TyperCommand

from orchestrator.cli import options
from orchestrator.cli.commands.inspect import plan_text
from orchestrator.cli.output import (
    print_json,
    stderr,
    stdout,
    stdout_kept_clean,
    stopped_before_running,
)
from orchestrator.cli.perform import make_for, perform
from orchestrator.decision.job import Command
from orchestrator.errors import OrchestratorError
from orchestrator.orchestrator import Orchestrator
from orchestrator.results import Preview

_BACKWARDS: Final = re.compile(r"-\d+")

_A_REVISION: Final = "a revision (a beginning of its id will do), a label"


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    app.command()(options.expanded(create))
    app.command()(options.expanded(resolve))
    for command in (stamp, upgrade, downgrade):
        app.command(cls=_TakesRevision)(options.expanded(command))


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


def create(
    where: options.Where,
    running: options.Running,
    no_stamp: Annotated[
        bool, typer.Option("--no-stamp", help="Leave the version table empty.")
    ] = False,
) -> None:
    """Create the tables of the metadata in an empty database, and stamp it as newest.

    What only revisions make is skipped: seed rows, triggers, views, changes that they make by
    statements. The proof is that every table of the metadata is there.
    """
    orchestrator = make_for(where, running, Command.CREATE)
    report = perform(orchestrator, Command.CREATE, running=running, stamp_created=not no_stamp)
    silent = running.json or running.quiet or orchestrator.settings.log == "json"
    if no_stamp and report.led and not silent:
        stdout().print("Not stamped. Next: `orchestrator stamp heads`.")


def stamp(
    where: options.Where,
    running: options.Running,
    revision: Annotated[
        str, typer.Argument(metavar="REV", help=f"What to note down: {_A_REVISION}, heads or base.")
    ],
    force: Annotated[
        bool, typer.Option("--force", help="Stamp a database without tables, too.")
    ] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Take all version rows away first, unknown ones too.")
    ] = False,
) -> None:
    """Set the version rows to a revision (or `heads`, `base`) without running any."""
    orchestrator = make_for(where, running, Command.STAMP)
    perform(orchestrator, Command.STAMP, revision, running=running, force=force, purge=purge)


def upgrade(
    where: options.Where,
    running: options.Running,
    revision: Annotated[
        str, typer.Argument(metavar="REV", help=f"How far: {_A_REVISION}, heads, or +2 of them.")
    ] = "heads",
) -> None:
    """Run the revisions up to one: a revision, `heads`, or `+2` from where the database is."""
    orchestrator = make_for(where, running, Command.UPGRADE)
    perform(orchestrator, Command.UPGRADE, revision, running=running)


def downgrade(
    where: options.Where,
    running: options.Running,
    revision: Annotated[
        str,
        typer.Argument(metavar="REV", help=f"Back to: {_A_REVISION}, base, or -1."),
    ],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, on a terminal, before tables go.")
    ] = False,
) -> None:
    """Take back the revisions beyond one: a revision, `base`, or `-1` for the last one."""
    orchestrator = make_for(where, running, Command.DOWNGRADE)
    asks = not yes and sys.stdin.isatty() and sys.stderr.isatty()
    if asks and not _may_drop(orchestrator, revision):
        if running.json:
            print_json(stopped_before_running(Command.DOWNGRADE))
        raise KeyboardInterrupt
    perform(orchestrator, Command.DOWNGRADE, revision, running=running)


def resolve(
    where: options.Where,
    running: options.Running,
    applied: Annotated[
        str | None, typer.Option("--applied", metavar="REV", help="It is done: note that down.")
    ] = None,
    rolled_back: Annotated[
        str | None,
        typer.Option("--rolled-back", metavar="REV", help="It is undone, as if never begun."),
    ] = None,
) -> None:
    """End the state `interrupted`, once you have seen to the revision by hand.

    Where a database commits each change of tables at once (MariaDB, MySQL), a revision that fails
    or is killed in its middle is half done. `orchestrator run` then refuses, and says how far it
    has come. Finish it by hand, or undo it; then say which.
    """
    if (applied is None) == (rolled_back is None):
        raise typer.BadParameter("name the revision by either --applied or --rolled-back")
    orchestrator = make_for(where, running, Command.RESOLVE)
    revision = applied if applied is not None else rolled_back
    done = applied is not None
    perform(orchestrator, Command.RESOLVE, revision, running=running, applied=done)


def _may_drop(orchestrator: Orchestrator, revision: str) -> bool:
    """Tell which tables and columns go, if any, and ask whether they may."""

    async def preview() -> Preview:
        return await orchestrator.plan(downgrade=revision)

    try:
        with stdout_kept_clean():
            found = anyio.run(preview)
    except OrchestratorError:
        return True  # the downgrade itself will tell it
    if not found.drops:
        return True
    stderr().print(plan_text(found))
    stderr().print("Go on? \\[y/N] ", end="")
    try:
        answer = sys.stdin.readline()
    except OSError:  # the terminal is gone
        answer = ""
    return answer.strip().lower() in ("y", "yes")
