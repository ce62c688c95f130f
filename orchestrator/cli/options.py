"""The options that commands share, and the orchestrator that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

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
Log = Annotated[
    str | None,
    typer.Option(
        help="How to tell what happens, on stderr: auto (a progress display), console or json "
        "(a line an event, json for containers), off.",
        rich_help_panel=_OUT,
        metavar="FORM",
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Where:
    """The options of every command that works with a project and its database."""

    config: Config = None
    database_url: DatabaseURL = None
    script_location: ScriptLocation = None
    x_arg: XArg = None
    tag: Tag = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Running:
    """The options of every command that runs something on the database."""

    lock_timeout: LockTimeout = None
    log: Log = None
    json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Looking:
    """The options of every command that only looks."""

    json: Json = False
    verbose: Verbose = False


def expanded(function: Callable[..., None]) -> Callable[..., None]:
    """The function with each parameter that is a group of options in the place of its options.

    A group is a dataclass, whose fields are declared as parameters of a command are.
    """
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: list[Parameter] = []
    for name, parameter in signature(function).parameters.items():
        if name not in groups:
            parameters.append(
                parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
            )
            continue
        options = get_type_hints(groups[name], include_extras=True)
        parameters.extend(
            Parameter(
                field.name,
                Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=options[field.name],
            )
            for field in fields(groups[name])
        )

    @wraps(function)
    def command(**values: Any) -> None:
        for name, group in groups.items():
            given = {field.name: values.pop(field.name) for field in fields(group)}
            values[name] = group(**given)
        function(**values)

    # What Typer reads, instead of the function's own.
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined] # of all functions
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def make_orchestrator(where: Where, **settings: Any) -> Orchestrator:
    """The orchestrator that a command works with; a setting of None is not given.

    Raises `ConfigurationError`.
    """
    given = settings | {
        "database_url": where.database_url,
        "script_location": where.script_location,
        "x_args": where.x_arg or None,
        "tag": where.tag,
    }
    try:
        return Orchestrator.from_config(where.config, **given)
    except ConfigurationError as error:
        if error.source != "argument":
            raise
        option = f"--{(error.setting or '').removesuffix('_seconds').replace('_', '-')}"
        raise ConfigurationError(
            f"{option}: {error}", setting=error.setting, source=option, allowed=error.allowed
        ) from None
