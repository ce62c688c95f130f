"""How results and errors are printed: for people, or as one JSON document."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from orchestrator.database_url import hide
from orchestrator.errors import OrchestratorError
from orchestrator.results import RunReport, to_jsonable


def stdout() -> Console:
    """Where results go."""
    return Console(file=sys.stdout, soft_wrap=True, highlight=False)


def stderr() -> Console:
    """Where progress and diagnostics go."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """Print a result as one JSON document."""
    print(json.dumps(to_jsonable(value), indent=2, ensure_ascii=False))


def plainly(text: str) -> str:
    """Text of somebody else's, safe to print: no markup and no terminal escapes."""
    shown = "".join(
        char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text
    )
    return escape(shown)


def report_interrupt() -> None:
    """Say that a command was stopped before it began to work."""
    stderr().print("Stopped before anything was done.")


@contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Send what `env.py` and revisions print to stderr."""
    with redirect_stdout(sys.stderr):
        yield


@contextmanager
def errors_reported(
    *, as_json: bool, verbose: bool, wrap: Callable[[OrchestratorError], Any] | None = None
) -> Iterator[None]:
    """End the command with the exit code of an error, told in words instead of a traceback.

    `wrap` makes the JSON document of an error; by default it is its report under `error`.
    """
    try:
        yield
    except OrchestratorError as error:
        print_error(error, verbose=verbose)
        if as_json:
            print_json(wrap(error) if wrap else {"error": error.report()})
        raise typer.Exit(error.exit_code) from None


def print_error(error: OrchestratorError, *, verbose: bool) -> None:
    """Tell an error on stderr; its traceback only if asked for, and never a password."""
    console = stderr()
    if verbose:
        text = "".join(traceback.format_exception(error))
        for url in filter(None, (os.environ.get(name) for name in _URL_VARIABLES)):
            text = hide(text, url)
        console.print(plainly(text), style="dim")
    console.print(f"[bold red]{type(error).__name__}[/]: {plainly(str(error))}")


_URL_VARIABLES = ("ORCHESTRATOR_DATABASE_URL", "DATABASE_URL")


def failed_before_running(command: str) -> Callable[[OrchestratorError], RunReport]:
    """The report of a run that could not begin."""

    def report(error: OrchestratorError) -> RunReport:
        return RunReport(
            run_id="",
            outcome="failed",
            command=command,
            led=False,
            state_before=None,
            versions=(),
            applied=(),
            tasks=(),
            waited_seconds=0.0,
            duration_seconds=0.0,
            error=error.report(),
        )

    return report
