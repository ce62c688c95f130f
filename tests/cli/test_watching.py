"""`status --watch`: what other processes are at, on a terminal and on a pipe."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable
from functools import partial

import anyio
import pytest
from rich.console import Console

from orchestrator import Orchestrator, Settings
from orchestrator.cli.commands.inspect import _status_table
from orchestrator.cli.watching import watch
from tests.projects import Project
from tests.zygote import Forked, Zygote

ENV_PY = """
from orchestrator.environment import run_migrations

run_migrations()
"""
GATED = """
import pathlib
while not (pathlib.Path(__file__).parents[2] / "go").exists():
    time.sleep(0.01)
"""


def soon(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def began(project: Project, zygote: Zygote) -> list[Forked]:
    """One that is at revision `r2`, and two that wait for it."""
    project.write("migrations/env.py", ENV_PY)
    project.chain(1)
    project.revision("r2", "r1", GATED)
    started = zygote.start(project, "run", processes=3)
    soon(
        lambda: (project.state / "journal.jsonl").exists() and events(project, "lock_waiting") == 2
    )
    soon(lambda: events(project, "revision_started") == 2)
    return started


def written(process: Forked) -> str:
    """What it has written to standard output so far; it may not have begun."""
    file = process.output.with_suffix(".out")
    return file.read_text() if file.exists() else ""


def events(project: Project, name: str) -> int:
    return sum(line["event"] == name for line in project.journal())


def test_a_line_for_each_change(project: Project, zygote: Zygote) -> None:
    """On a pipe; it ends when the database is at its target, with what it is then."""
    started = began(project, zygote)
    [watcher] = zygote.start(project, "status", "--watch", "--check")
    soon(lambda: "2 waiting" in written(watcher))
    (project.path / "go").touch()
    ended = watcher.finish()
    for process in started:
        process.finish()

    assert ended.code == 0, ended.stderr
    lines = ended.stdout.splitlines()
    [at_work] = [line for line in lines if "2 waiting" in line][:1]
    assert "empty, at no version; 1 of 2 revisions; at r2; by " in at_work
    assert len(lines) == len({*lines})
    assert lines[-1].split() == ["lock", "free"]


def test_it_is_left_by_an_interrupt(project: Project, zygote: Zygote) -> None:
    """With the exit code of one, and nothing else is said."""
    project.chain(1)
    [watcher] = zygote.start(project, "status", "--watch")
    soon(lambda: "absent" in written(watcher))
    watcher.send(signal.SIGINT)
    ended = watcher.finish()
    assert ended.code == 128 + signal.SIGINT
    assert "Traceback" not in ended.stderr


def test_a_run_that_has_failed_is_told(project: Project, zygote: Zygote) -> None:
    """Also where it did so before somebody looked; and that nobody is at work."""
    project.chain(1)
    project.revision("r2", "r1", "raise ValueError('bad words')")
    assert project.run("run").code == 1
    [watcher] = zygote.start(project, "status", "--watch")
    soon(lambda: "the last run failed: The upgrade failed at revision r2" in written(watcher))
    watcher.send(signal.SIGINT)
    assert "nobody is at work" in watcher.finish().stdout


def test_it_is_for_people(project: Project) -> None:
    ended = project.run("status", "--watch", "--json")
    assert ended.code == 2
    assert "--watch" in ended.stderr


@pytest.mark.parametrize("width", [80, 40])
def test_a_terminal(project: Project, zygote: Zygote, width: int) -> None:
    """The state, the revisions with their times, how many of how many, and who waits."""
    started = began(project, zygote)
    written = io.StringIO()
    console = Console(file=written, force_terminal=True, width=width, _environ={"TERM": "xterm"})
    settings = Settings(
        database_url=project.url, script_location=str(project.path / "migrations"), log="off"
    )
    orchestrator = Orchestrator(settings)
    table_of = partial(_status_table, brief=True)

    async def look() -> None:
        first = await orchestrator.inspect()

        async def let_go() -> None:
            with anyio.fail_after(30):
                while "2 waiting" not in written.getvalue():  # noqa: ASYNC110 - it is no event
                    await anyio.sleep(0.02)
            (project.path / "go").touch()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(let_go)
            found = await watch(orchestrator, console, first, table_of=table_of)
        assert found.at_target

    anyio.run(look)
    for process in started:
        process.finish()
    told = written.getvalue()
    assert "revision r2" in told
    assert "1 of 2" in told
    assert "2 revisions" in told
