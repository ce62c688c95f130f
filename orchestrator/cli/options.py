"""The options that commands share, in groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import typer

from orchestrator.databases.url import EXAMPLE
from orchestrator.errors import OPTIONS

_WHERE = "Where the database and its scripts are"
_HOW = "How to run"
_OUT = "What to print"


def _settings() -> list[str]:
    """What completes `--set`: the settings that have no option of their own."""
    from orchestrator.settings import Settings  # for a shell that completes

    return [f"{name}=" for name in Settings.model_fields if name not in OPTIONS]


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
App = Annotated[
    str | None,
    typer.Option(
        help="Take the settings that the application has in its code: an Orchestrator, or an "
        "application or a factory that has one, such as main:app.",
        rich_help_panel=_WHERE,
        metavar="MODULE:OBJECT",
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
        "--x-arg",
        "-x",
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
Set = Annotated[
    list[str] | None,
    typer.Option(
        help="Any other setting, such as unversioned=adopt; a list as JSON. May be given often.",
        autocompletion=_settings,
        rich_help_panel=_WHERE,
        metavar="NAME=VALUE",
    ),
]
Target = Annotated[
    str | None,
    typer.Option(
        help="What to reach: heads (the default), head, a revision or a label.",
        rich_help_panel=_HOW,
        metavar="REV",
    ),
]
Mode = Annotated[
    Literal["migrate", "follow", "require"] | None,
    typer.Option(
        help="follow: wait until another process has migrated; require: neither wait nor migrate, "
        "and fail where there is something to do. Default: migrate.",
        rich_help_panel=_HOW,
    ),
]
Bootstrap = Annotated[
    Literal["upgrade", "create"] | None,
    typer.Option(
        help="How to fill an empty database: by its revisions (the default), or from the metadata, "
        "with a stamp.",
        rich_help_panel=_HOW,
    ),
]
LockTimeout = Annotated[
    str | None,
    typer.Option(
        help="How long to wait for another process: 300 by default, inf for ever.",
        rich_help_panel=_HOW,
        metavar="SECONDS",
    ),
]
Log = Annotated[
    Literal["auto", "console", "json", "off"] | None,
    typer.Option(
        help="How to tell what happens, on stderr: auto (the default, a progress display), a line "
        "for each event (json for containers), or off.",
        rich_help_panel=_OUT,
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
    app: App = None
    database_url: DatabaseURL = None
    script_location: ScriptLocation = None
    x_arg: XArg = None
    tag: Tag = None
    set: Set = None


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
