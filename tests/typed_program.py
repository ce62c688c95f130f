"""A program for type checkers, by `make check`: what a user's mistakes in settings are told as.

It is not run. Each comment that lets an error pass must be needed: mypy's `warn_unused_ignores` and
pyright's `reportUnnecessaryTypeIgnoreComment` see to that.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import URL

from orchestrator import Orchestrator, Settings
from orchestrator.settings import load


def right() -> list[Orchestrator]:
    settings = Settings(
        database_url=URL.create("sqlite", database="app.db"),
        script_location=Path("migrations"),
        version_locations=["more", Path("versions")],
        mode="require",
        lock_timeout_seconds=3,
        journal="off",
        x_args=("a=1",),
    )
    return [
        Orchestrator(settings),
        Orchestrator(load("o.toml", database_url=None, target="head")),
        Orchestrator.from_config(script_location=Path("migrations")).with_settings(log="json"),
    ]


def wrong() -> None:
    Settings(scriptlocation="migrations")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Settings(mode="folow")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Settings(lock_timeout_seconds="3")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    load(mod="follow")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Orchestrator.from_config(release=1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
