"""One command, performed to its end: shown as it goes, stopped by signals, summed up."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import anyio
import typer
from anyio.abc import TaskGroup
from rich.console import Console

from orchestrator.cli.making import make_orchestrator
from orchestrator.cli.options import Running, Where
from orchestrator.cli.output import (
    errors_reported,
    failed_before_running,
    plainly,
    print_error,
    print_json,
    stderr,
    stdout,
    stdout_kept_clean,
)
from orchestrator.cli.progress import show
from orchestrator.decision.job import Command
from orchestrator.errors import OrchestratorError
from orchestrator.orchestrator import Orchestrator, Run
from orchestrator.results import RunReport
from orchestrator.settings import Settings
from orchestrator.timeline.wording import duration

_AT_ONCE: Final = 2
_ABORT_SECONDS: Final = 5.0
"""How long a run has to end itself, when what it waits for has been cancelled."""


def make_for(where: Where, running: Running, command: Command, **settings: Any) -> Orchestrator:
    """The orchestrator that is to run a command; where there is none, the command is ended."""
    wrap = failed_before_running(command)
    with errors_reported(as_json=running.json, verbose=running.verbose, wrap=wrap):
        return make_orchestrator(
            where, lock_timeout_seconds=running.lock_timeout, log=running.log, **settings
        )
    raise AssertionError("an error that is reported ends the command")


def perform(
    orchestrator: Orchestrator,
    command: Command,
    revision: str | None = None,
    *,
    running: Running,
    **flags: bool,
) -> RunReport:
    """Run a command to its end, show how it goes, and leave with its exit code if it failed.

    With `--log console` and `json` the events take the place of the progress display; as JSON
    they are all that is printed, the result aside that `--json` asks for.
    """
    log = orchestrator.settings.log
    if log == "auto" or running.quiet:
        # What a command prints is its log.
        orchestrator = orchestrator.with_settings(log="off")
    only_events = log == "json" and not running.quiet
    show_progress = log == "auto" and not (running.quiet or running.json)
    ended: list[tuple[RunReport, list[int]]] = []
    work = partial(
        _run_and_show,
        ended,
        orchestrator,
        command,
        revision,
        flags,
        show_progress=show_progress,
        only_events=only_events,
        verbose=running.verbose,
    )
    wrap = failed_before_running(command)
    with errors_reported(as_json=running.json, verbose=running.verbose, wrap=wrap):
        send = _telemetry(orchestrator.settings)
    try:
        with stdout_kept_clean():
            anyio.run(work)
    except KeyboardInterrupt:
        if not ended:
            raise
    finally:
        send()
    [(report, stopped_by)] = ended
    with suppress(KeyboardInterrupt):  # what has ended cannot be stopped any more
        if running.json:
            print_json(report)
        elif not only_events:
            for warning in () if show_progress else report.warnings:
                stderr().print(f"[yellow]warning[/]: {plainly(warning)}")
            stdout().print(_summary(report), markup=True)
    if report.error is not None and not stopped_by[1:]:
        raise typer.Exit(report.error.exit_code)
    if report.error is not None or report.outcome == "cancelled":
        raise typer.Exit(128 + next(iter(stopped_by), signal.SIGTERM))
    return report


def _telemetry(settings: Settings) -> Callable[[], None]:
    if settings.telemetry == "off":
        return lambda: None
    from orchestrator.cli.telemetry import telemetry_of  # nobody else pays for it

    return telemetry_of(settings)


async def _run_and_show(
    ended: list[tuple[RunReport, list[int]]],
    orchestrator: Orchestrator,
    command: Command,
    revision: str | None,
    flags: dict[str, bool],
    *,
    show_progress: bool,
    only_events: bool,
    verbose: bool,
) -> None:
    """Put into `ended` the report, and the signals that the run was stopped by, if any."""
    stopped_by: list[int] = []
    run: Run | None = None
    console = stderr()  # the one of the display, which makes room for what else is said
    told = not only_events
    try:
        # Before the run begins: one that is told to begin is told to end, too.
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with anyio.create_task_group() as tasks:
                async with orchestrator.start(command, revision, on_event=None, **flags) as run:
                    tasks.start_soon(
                        _cancel_on_signal, signals, tasks, run, stopped_by, console, told
                    )
                    await show(run.events(), console, quiet=not show_progress)
                tasks.cancel_scope.cancel()
    except* OrchestratorError as group:
        for error in group.exceptions:
            if isinstance(error, OrchestratorError) and not only_events:
                hiding = [orchestrator.resources.hide]
                print_error(error, verbose=verbose, hiding=hiding)
    if run is None or run.report is None:
        raise RuntimeError("the run left no report")
    ended.append((run.report, stopped_by))


async def _cancel_on_signal(
    signals: AsyncIterator[signal.Signals],
    tasks: TaskGroup,
    run: Run,
    stopped_by: list[int],
    console: Console,
    told: bool,
) -> None:
    async for number in signals:
        stopped_by.append(number)
        if len(stopped_by) == 1:
            if told:
                at_work = " after the current revision" if run.at_work else ""
                console.print(f"Stopping{at_work}. Once more stops at once.")
            run.cancel()
            continue
        # Asked twice: at once. A server that does the work is told to end it, and the run ends.
        again = len(stopped_by) > _AT_ONCE
        seconds = _ABORT_SECONDS if not again and await run.abort() else 0
        tasks.start_soon(_exit, number, seconds, console if told else None)


async def _exit(number: int, seconds: float, console: Console | None) -> None:
    """End the process, if it has not ended by then. An open transaction is gone."""
    await anyio.sleep(seconds)
    if console is not None:
        console.print(
            "Stopped at once. What was not committed is not kept; `orchestrator status` tells "
            "what is there."
        )
        if console.is_terminal:  # the display is left where it stands
            console.show_cursor()
            console.file.write("\n")
            console.file.flush()
    os._exit(128 + number)


def _summary(report: RunReport) -> str:
    at = plainly(", ".join(report.versions) or "base")
    took = duration(report.duration_seconds)
    waited = f", waited {duration(report.waited_seconds)}" if report.waited_seconds else ""
    number = len(report.applied)
    revisions = f"{number} revision{'s' if number != 1 else ''}"
    match report.outcome:
        case "ready" if report.led:
            tasks = " + ".join(task.task for task in report.tasks)
            did = f"{tasks}, {revisions}" if number else tasks
            word = "resolved" if report.command == Command.RESOLVE else "ready"
            return f"[bold green]{word}[/] at {at}: {did} in {took}{waited}"
        case "ready":
            return f"[bold green]ready[/] at {at}: nothing to do, {took}{waited}"
        case "cancelled":
            kept = f"{revisions} kept" if number else "nothing was changed"
            return f"[bold yellow]cancelled[/] after {took}: {kept}"
        case _:
            # What else is intact, the error itself has said.
            kept = f": {revisions} kept" if number else ""
            return f"[bold red]failed[/] after {took}{kept}"
