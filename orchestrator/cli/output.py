"""How results and errors are printed: for people, or as one JSON document."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from typing import Any, Final, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from orchestrator.cli.streams import losing_at
from orchestrator.databases.secrets import redacted
from orchestrator.databases.url import redact
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.results import RunReport, to_jsonable
from orchestrator.settings import Settings, nearly_settings

Hide = Callable[[str], str]
INTERRUPTED: Final = 128 + signal.SIGINT
_STDOUT: Final = 1
_SLOW_SECONDS: Final = 2.0


def stdout(stream: TextIO | None = None) -> Console:
    """Where results go; `stream` is what leads there where `sys.stdout` does not."""
    return Console(
        file=sys.stdout if stream is None else stream, soft_wrap=True, highlight=False, emoji=False
    )


def stderr() -> Console:
    """Where progress and diagnostics go."""
    return Console(file=sys.stderr, soft_wrap=True, highlight=False, emoji=False)


class UsageError(ConfigurationError):
    """The command line itself is wrong."""


def print_table(table: Table) -> None:
    """Print a table; without blanks at the ends of lines where nobody sees colours."""
    console = stdout()
    if console.is_terminal:
        console.print(table)
        return
    with console.capture() as captured:
        console.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def print_remarks() -> None:
    """Print what a run would tell in a `warning`, for commands that only look."""
    for remark in nearly_settings():
        stderr().print(f"[yellow]warning[/]: {plainly(remark)}")


def print_json(value: Any) -> None:
    """Print a result as one JSON document."""
    print(json.dumps(to_jsonable(value), indent=2))


def print_sql(sql: str) -> None:
    """Print SQL as it is.

    Raises `ConfigurationError` where stdout's encoding would change it.
    """
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sql.encode(encoding)
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"The SQL cannot be printed: stdout's encoding, {encoding}, lacks "
            f"{sql[error.start]!a}. Set PYTHONIOENCODING=utf-8."
        ) from error
    print(sql, end="")


def plainly(text: str) -> str:
    """Text of somebody else's, safe to print: no markup and no terminal escapes."""
    return escape(visible(text))


def visible(text: str) -> str:
    """Text of somebody else's without terminal escapes; its lines stay lines."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text
    )


def report_interrupt() -> None:
    """Say that a command was stopped before it began to work."""
    stderr().print("Stopped before anything was done.")


def report_usage(error: Any, *, as_json: bool) -> int:
    """Tell what is wrong with the command line itself; returns the exit code."""
    if error.ctx is not None and type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message(), end="")  # Rich has printed it, where it is used
        return ConfigurationError.exit_code
    message = error.format_message().replace(": Value error, ", ": ")  # pydantic's, in Typer
    for argument in filter(lambda text: ":" in text and ("//" in text or "@" in text), sys.argv):
        message = message.replace(argument, redact(argument))
    message = redacted(message)
    if error.ctx is not None:
        stderr().print(plainly(error.ctx.get_usage()), style="dim")
    ended = message if message.endswith((".", "?", "!")) else f"{message}."
    told = UsageError(ended, source="command line")
    print_error(told, verbose=False, hiding=())
    if as_json:
        print_json({"error": told.report()})
    return told.exit_code


@contextmanager
def stdout_kept_clean() -> Iterator[TextIO]:
    """Send what `env.py`, revisions and the programs that they start print to stderr.

    What they put in the place of a stream is theirs, and goes with them. The command itself
    reaches stdout by the stream that is yielded.
    """
    with (
        redirect_stderr(sys.stderr),
        _descriptor_kept_clean() as own,
        redirect_stdout(sys.stderr),
    ):
        yield own


@contextmanager
def _descriptor_kept_clean() -> Iterator[TextIO]:
    """The same for what is written to descriptor 1, where that is this process's stdout."""
    own = sys.stdout
    try:
        elsewhere = sys.stderr.fileno() if own.fileno() == _STDOUT else None
    except (OSError, ValueError):  # a stream without a descriptor
        elsewhere = None
    if elsewhere is None:
        yield own
        return
    kept = os.dup(_STDOUT)
    own.flush()
    os.dup2(elsewhere, _STDOUT)
    there = losing_at(kept, own)
    try:
        yield there
    finally:
        there.flush()
        own.flush()  # what was printed to sys.__stdout__
        os.dup2(kept, _STDOUT)
        os.close(kept)


@contextmanager
def errors_reported(
    *, as_json: bool, verbose: bool, wrap: Callable[[OrchestratorError], Any] | None = None
) -> Iterator[list[Hide]]:
    """End the command with the exit code of an error, told in words instead of a traceback.

    `wrap` makes the JSON document of an error; by default it is its report under `error`.
    Put into the list that is yielded what takes the secrets out of a traceback.
    """
    hiding: list[Hide] = []
    try:
        yield hiding
    except OrchestratorError as error:
        # What was typed in a wrong place, a URL perhaps, is told with it.
        error.args = (redacted(str(error)),)
        print_error(error, verbose=verbose, hiding=hiding)
        if as_json:
            print_json(wrap(error) if wrap else {"error": error.report()})
        raise typer.Exit(error.exit_code) from None


def print_error(error: OrchestratorError, *, verbose: bool, hiding: Iterable[Hide]) -> None:
    """Tell an error on stderr; its traceback only if asked for, and never a password."""
    console = stderr()
    if verbose:
        lines = traceback.format_exception(error)
        lines = lines[: -len(traceback.format_exception_only(error))]  # which follows below
        text = redacted("".join(lines))
        for hide in hiding:
            text = hide(text)
        console.print(plainly(text), style="dim")
    console.print(f"[bold red]{type(error).__name__}[/]: {plainly(str(error))}")


def failed_before_running(command: str) -> Callable[[OrchestratorError], RunReport]:
    """The report of a run that could not begin."""
    return lambda error: replace(
        stopped_before_running(command), outcome="failed", error=error.report()
    )


def stopped_before_running(command: str) -> RunReport:
    """The report of a run that somebody did not let begin."""
    return RunReport(
        run_id="",
        outcome="cancelled",
        command=command,
        led=False,
        state_before=None,
        versions=(),
        applied=(),
        tasks=(),
        waited_seconds=0.0,
        duration_seconds=0.0,
        error=None,
    )


@contextmanager
def word_if_slow(settings: Settings) -> Iterator[None]:
    """Say, while the block lasts for long, what it may be that it waits for."""
    seconds = settings.connect_timeout_seconds
    text = (
        f"Still looking. A database that does not answer is waited for, {seconds:g} s at most "
        "(`connect_timeout_seconds`)."
    )
    timer = threading.Timer(_SLOW_SECONDS, lambda: stderr().print(text))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
