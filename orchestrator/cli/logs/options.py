"""The options that the commands of `orchestrator logs` share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.cli import options

_AGO: Final = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)\s*([smhdw])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Outcome(StrEnum):
    """How a run can have ended."""

    READY = "ready"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNFINISHED = "unfinished"


def moment(value: str) -> datetime:
    """A moment: `90s`, `30m`, `2h`, `3d`, `1w` ago, or in ISO 8601, UTC where it names no zone.

    Raises `typer.BadParameter` for anything else.
    """
    ago = _AGO.fullmatch(value.strip())
    try:
        if ago:
            unit = _UNITS[ago[2]]
            return datetime.now(UTC) - timedelta(**{unit: float(ago[1])})
        at = datetime.fromisoformat(value.strip())
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{value!r} is no moment: write 90s, 30m, 2h, 3d or 1w for so long ago, "
            "or 2026-01-31 or 2026-01-31T12:00:00 (UTC)."
        ) from None


JournalFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--journal",
        metavar="FILE",
        help="Read this journal instead; may be given several times, - is standard input.",
        show_default=False,
    ),
]
Count = Annotated[
    int, typer.Option("-n", "--count", min=1, metavar="N", help="How many, the last ones.")
]
Since = Annotated[
    datetime | None,
    typer.Option(
        "--since",
        parser=moment,
        metavar="WHEN",
        help="Begun then or later: 2h (ago), or 2026-01-31T12:00 (UTC).",
        show_default=False,
    ),
]
Until = Annotated[
    datetime | None,
    typer.Option(
        "--until",
        parser=moment,
        metavar="WHEN",
        help="Begun then or earlier.",
        show_default=False,
    ),
]
ByOutcome = Annotated[
    Outcome | None, typer.Option("--outcome", help="Ended so.", show_default=False)
]
Led = Annotated[bool, typer.Option("--led", help="Only those that did the work.")]
ByHost = Annotated[
    str | None, typer.Option("--host", metavar="NAME", help="Of this host.", show_default=False)
]
ByDatabase = Annotated[
    str | None,
    typer.Option(
        "--database", metavar="TEXT", help="With this in the database's URL.", show_default=False
    ),
]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run id, or how it begins.")]
StartId = Annotated[
    str | None,
    typer.Argument(
        metavar="[START]",
        help="The id of any run of it, or how it begins. Default: the last start.",
        show_default=False,
    ),
]
Svg = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Write it as SVG.", show_default=False),
]
Html = Annotated[
    Path | None,
    typer.Option("--html", metavar="FILE", help="Write it as HTML.", show_default=False),
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The options of every command that reads journals: which ones, and how to print."""

    journal: JournalFiles = None
    config: options.Config = None
    app: options.App = None
    database_url: options.DatabaseURL = None
    script_location: options.ScriptLocation = None
    set: options.Set = None
    json: options.Json = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Some:
    """The options of every command that shows the last ones of many."""

    count: Count = 20
    since: Since = None
    until: Until = None
    database: ByDatabase = None
