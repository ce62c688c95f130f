"""The commands that bring the database to its target: run and wait."""

from __future__ import annotations

import typer

from orchestrator.cli import options
from orchestrator.cli.perform import make_for, perform
from orchestrator.decision.job import Command


def register(app: typer.Typer) -> None:
    """Add the commands of this group."""
    for command in (run, wait):
        app.command()(options.expanded(command))


def run(
    where: options.Where,
    *,
    target: options.Target = None,
    mode: options.Mode = None,
    bootstrap: options.Bootstrap = None,
    running: options.Running,
) -> None:
    """Bring the database to its target, or wait until another process has.

    Safe to start in any number of processes at once: exactly one does the work. An empty
    database is filled by its revisions, or created from the metadata (`--bootstrap create`).
    """
    orchestrator = make_for(
        where, running, Command.RUN, target=target, mode=mode, bootstrap=bootstrap
    )
    perform(orchestrator, Command.RUN, running=running)


def wait(where: options.Where, *, target: options.Target = None, running: options.Running) -> None:
    """Wait until the database is at its target; never migrate, never take a lock.

    For processes that start beside a deploy job which runs `orchestrator run`.
    """
    orchestrator = make_for(where, running, Command.RUN, target=target, mode="follow")
    perform(orchestrator, Command.RUN, running=running)
