"""The options that commands share, and the orchestrator that they make."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.databases.url import EXAMPLE
from orchestrator.errors import ConfigurationError
from orchestrator.orchestrator import Orchestrator

_WHERE = "Where the database and its scripts are"
_HOW = "How to run"
_OUT = "What to print"

Config = Annotated[
    Path | None,
    typer.Option(
        help="TOML file with the settings. [default: pyproject.toml's \\[tool.orchestrator\\]]",
        envvar="ORCHESTRATOR_CONFIG",
        rich_help_panel=_WHERE,
        show_envvar=True,
        metavar="FILE",
    ),
]
DatabaseURL = Annotated[
    str | None,
    typer.Option(help=f"SQLAlchemy URL, such as {EXAMPLE}.", rich_help_panel=_WHERE, metavar="URL"),
]
ScriptLocation = Annotated[
    str | None,
    typer.Option(
        help="Alembic's script directory: a path, or package:directory.",
        rich_help_panel=_WHERE,
        metavar="LOC",
    ),
]
XArg = Annotated[
    list[str] | None,
    typer.Option(
        help="Argument for env.py, as `alembic -x key=value` gives it. May be given often.",
        rich_help_panel=_WHERE,
        metavar="KEY=VALUE",
    ),
]
Tag = Annotated[
    str | None,
    typer.Option(
        help="Tag for env.py, as `alembic upgrade --tag` gives it.",
        rich_help_panel=_WHERE,
        metavar="TAG",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="What to reach: heads, head, a revision or a label.",
        rich_help_panel=_HOW,
        metavar="REV",
    ),
]
Bootstrap = Annotated[
    str | None,
    typer.Option(
        help="How to fill an empty database: upgrade (run the revisions) or create (from the "
        "metadata, then stamp).",
        rich_help_panel=_HOW,
        metavar="HOW",
    ),
]
LockTimeout = Annotated[
    str | None,
    typer.Option(
        help="Seconds to wait for another process; inf for ever.",
        rich_help_panel=_HOW,
        metavar="SECONDS",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON document and nothing else.", rich_help_panel=_OUT),
]
Verbose = Annotated[
    bool,
    typer.Option("--verbose", "-v", help="Print the traceback of an error.", rich_help_panel=_OUT),
]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="Print only the result.", rich_help_panel=_OUT),
]


def make_orchestrator(config: Path | None, **arguments: Any) -> Orchestrator:
    """The orchestrator that a command works with. Raises `ConfigurationError`."""
    try:
        return Orchestrator.from_config(config, **arguments)
    except ConfigurationError as error:
        if error.source != "argument":
            raise
        option = f"--{(error.setting or '').removesuffix('_seconds').replace('_', '-')}"
        raise ConfigurationError(
            f"{option}: {error}", setting=error.setting, source=option, allowed=error.allowed
        ) from None
