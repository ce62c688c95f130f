"""The command line. `commands/` has one file a command group, and `logs/` is one of its own."""

from __future__ import annotations

import gc
import logging
import os
import sys
from importlib.metadata import version as version_of
from typing import Annotated, Any, Final

import typer.main

from orchestrator.cli import options
from orchestrator.cli.commands import authoring, check, init, inspect, run, tasks
from orchestrator.cli.logs.commands import app as logs_app
from orchestrator.cli.output import INTERRUPTED, report_interrupt, report_usage
from orchestrator.cli.streams import words_lost_only

# Click's class, wherever Typer has it from: newer releases of it bring a copy of Click.
_UsageError: Final[type[Exception]] = typer.BadParameter.__bases__[0]

_COMPLETE: Final = "_ORCHESTRATOR_COMPLETE"
"""A shell that completes a line asks by this variable."""
_HELP_OPTIONS: Final = ["-h", "--help"]
_DISTRIBUTION: Final = "migration-orchestrator"
_TOLD_VERSIONS: Final = ("Alembic", "SQLAlchemy")

app = typer.Typer(
    name="orchestrator",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": _HELP_OPTIONS},
    help=(
        "Brings a database to its target with Alembic: **one process migrates, all others "
        "wait.**\n\n"
        "Start with `orchestrator status`, then `orchestrator run`. Settings come from options, "
        "then `ORCHESTRATOR_NAME` variables, then `--config FILE` or `[tool.orchestrator]` of "
        "`pyproject.toml`.\n\n"
        "Exit codes: 0 done, 1 a migration failed, 2 wrong configuration, 3 the lock was held "
        "too long, 4 refused to touch the database, 5 the database cannot be used, 6 not at the "
        "target (`status --check`) or models and database differ (`check`), 128 + N stopped by "
        "signal N."
    ),
)


def _tell_version(wanted: bool) -> None:
    if wanted:
        libraries = ", ".join(f"{name} {version_of(name)}" for name in _TOLD_VERSIONS)
        print(f"orchestrator {version_of(_DISTRIBUTION)} ({libraries})")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_tell_version, is_eager=True),
    ] = False,
    verbose: options.Verbose = False,
) -> None:
    """What may stand before the command."""
    del version
    if verbose:
        context.default_map = _for_each(context.command, {"verbose": True})


for group in (run, tasks, inspect, check, authoring, init):
    group.register(app)
app.add_typer(logs_app)


def main() -> None:
    """Run the command that `sys.argv` names; raises `SystemExit` with its exit code.

    Any process may call it; what the installed script does besides is in `__main__.py`.
    """
    # The commands tell everything themselves; nothing falls to logging's last resort.
    logging.getLogger("orchestrator").addHandler(logging.NullHandler())
    code: int | None = None
    try:
        with words_lost_only():
            code = _run()
    except KeyboardInterrupt:  # before the command, or when it has ended
        code = INTERRUPTED if code is None else code
    finally:
        # Python's last collections would take 0.2 s of a processor (3.11, 0.7 s in all), which
        # whoever has asked the process to end would wait for. What is frozen they pass over.
        gc.freeze()
    sys.exit(code)


def _run() -> int:
    """The exit code of the command.

    Not by `app()`, which has ends of its own for an interrupt and for a closed pipe.
    """
    try:
        command = typer.main.get_command(app)
        if _COMPLETE in os.environ:
            command.main([], prog_name="orchestrator", complete_var=_COMPLETE)
        _name_no_types_of_flags(command)
        with command.make_context("orchestrator", sys.argv[1:]) as context:
            command.invoke(context)
    except typer.Exit as end:
        return end.exit_code
    except _UsageError as error:
        return report_usage(error, as_json="--json" in sys.argv)
    except KeyboardInterrupt:
        report_interrupt()
        return INTERRUPTED
    return 0


def _for_each(command: Any, defaults: dict[str, Any]) -> dict[str, Any]:
    """Other defaults for the options of all commands below one."""
    below = getattr(command, "commands", {})
    return {name: {**defaults, **_for_each(one, defaults)} for name, one in below.items()}


def _name_no_types_of_flags(command: Any) -> None:
    """Have `--help` show nothing where Typer shows `<bool>`: a flag takes no value."""
    context = command.context_class(command, help_option_names=_HELP_OPTIONS)
    for parameter in command.get_params(context):
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    for one in getattr(command, "commands", {}).values():
        _name_no_types_of_flags(one)
