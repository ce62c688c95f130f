"""The lifespan: an application serves only on what is migrated."""

from __future__ import annotations

import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from fastapi import Request as FastAPIRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import orchestrator
from orchestrator import Orchestrator, Settings, TaskFailed
from orchestrator.events import TaskStarted
from orchestrator.lifespan import migrated
from tests.projects import Project

DEADLINE_SECONDS = 60


@pytest.fixture
def project(project: Project) -> Project:
    """A project whose `env.py` imports nothing of it: it runs in this process."""
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    return project


def make(project: Project, sinks: Any = ()) -> Orchestrator:
    location = str(project.path / "migrations")
    return Orchestrator(Settings(database_url=project.url, script_location=location), sinks=sinks)


class Database:
    """Takes down when it is connected and disconnected."""

    def __init__(self, story: list[str]) -> None:
        self.story = story

    async def connect(self) -> None:
        self.story.append("connect")

    async def disconnect(self) -> None:
        self.story.append("disconnect")


def own_lifespan(story: list[str]) -> Callable[[Any], Any]:
    @asynccontextmanager
    async def then(_: Any) -> AsyncIterator[dict[str, Any]]:
        story.append("enter")
        yield {"mine": 7}
        story.append("leave")

    return then


@pytest.mark.anyio
class TestMigrated:
    """`migrated()` under Starlette and FastAPI."""

    async def test_order(self, project: Project) -> None:
        """Run, connect, enter `then`; left in the reverse order."""
        project.chain(1)
        story: list[str] = []

        def sink(event: Any) -> None:
            if type(event).__name__ == "DatabaseReady":
                story.append("ready")

        lifespan = migrated(make(project, [sink]), Database(story), then=own_lifespan(story))
        async with lifespan(object()) as state:
            story.append("serve")

        assert story == ["ready", "connect", "enter", "serve", "leave", "disconnect"]
        assert state["mine"] == 7
        assert state["migration"].versions == ("r1",)

    async def test_unwinds_when_the_application_fails(self, project: Project) -> None:
        """The database is disconnected when `then` cannot be entered."""
        project.chain(1)
        story: list[str] = []

        @asynccontextmanager
        async def then(_: Any) -> AsyncIterator[None]:
            raise KeyError("mine")
            yield

        with pytest.raises(KeyError):
            async with migrated(make(project), Database(story), then=then)(object()):
                pass

        assert story == ["connect", "disconnect"]

    @pytest.mark.parametrize("framework", ["Starlette", "FastAPI"])
    async def test_state_of_a_request(self, project: Project, framework: str) -> None:
        """`request.state` has the report as `migration`, beside the state of `then`."""
        project.chain(2)
        lifespan = migrated(make(project), Database([]), then=own_lifespan([]))

        async def answer(request: Request) -> JSONResponse:
            migration = request.state.migration
            return JSONResponse([list(migration.versions), migration.led, request.state.mine])

        if framework == "Starlette":
            app: Any = Starlette(routes=[Route("/", answer)], lifespan=lifespan)
        else:
            app = FastAPI(lifespan=lifespan)

            @app.get("/")
            async def endpoint(request: FastAPIRequest) -> Any:
                return json.loads(bytes((await answer(request)).body))

        async with LifespanManager(app) as manager:
            transport = httpx.ASGITransport(manager.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                answered = (await client.get("/")).json()

        assert answered == [["r2"], True, 7]

    async def test_a_failed_run_stops_the_start(
        self, project: Project, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The error is raised, told in one line before; the database is never connected."""
        project.revision("r1", None, "raise ValueError('no')")
        story: list[str] = []
        app = Starlette(lifespan=migrated(make(project), Database(story), own_lifespan(story)))

        with pytest.raises(TaskFailed):
            async with app.router.lifespan_context(app):
                pass

        assert story == []
        told = [record for record in caplog.records if record.name == "orchestrator"][-1]
        assert told.levelno == logging.ERROR
        assert "TaskFailed" in told.getMessage()
        assert "ValueError: no" in told.getMessage()
        assert "\n" not in told.getMessage()

    async def test_a_heartbeat_ticks_while_it_migrates(self, project: Project) -> None:
        """The loop that the lifespan runs in stays free."""
        project.revision("r1", None, "time.sleep(0.5)")
        sunk: list[Any] = []
        ticks: list[bool] = []

        async def beat() -> None:
            while True:
                ticks.append(any(isinstance(event, TaskStarted) for event in sunk))
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat)
            async with migrated(make(project, [sunk.append]))(object()):
                tasks.cancel_scope.cancel()

        # 50 are expected in the half second; a loop that is held has one.
        assert sum(ticks) >= 10


GATED = """
import pathlib
while not (pathlib.Path(__file__).parents[2] / "go").exists():
    time.sleep(0.01)
"""

APPLICATION = """
import os
import time

from fastapi import FastAPI, Request
from orchestrator import Orchestrator, Settings
from orchestrator.lifespan import migrated

app = FastAPI(lifespan=migrated(Orchestrator(Settings())))


@app.get("/health")
async def health(request: Request) -> dict:
    time.sleep(0.02)  # busy, so that another worker takes the next connection
    migration = request.state.migration
    return {"pid": os.getpid(), "led": migration.led, "versions": migration.versions}
"""


def start_uvicorn(project: Project, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project.write("served.py", APPLICATION)
    command = [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), *arguments]
    log = (project.path / "uvicorn.log").open("w")
    with log:
        process = subprocess.Popen(
            command,
            cwd=project.path,
            env=project.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )
    return process, port


def end(process: subprocess.Popen[str]) -> None:
    """End a server and, if it does not end its workers, these too."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(30)
    finally:
        process.kill()
        process.wait()


class TestUvicorn:
    """A real server."""

    def test_four_workers(self, project: Project) -> None:
        """On a database that does not exist: one leads, three wait, all of them serve."""
        project.revision("r1", None, GATED)
        process, port = start_uvicorn(project, "--workers", "4")
        try:
            journal = project.state / "journal.jsonl"
            deadline = time.monotonic() + DEADLINE_SECONDS
            while not journal.exists() or len(pids(project, "lock_waiting")) < 3:
                assert process.poll() is None, (project.path / "uvicorn.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            (project.path / "go").touch()
            answers = ask_until_all(port, 4)
        finally:
            end(process)

        assert sum(answer["led"] for answer in answers.values()) == 1
        assert {tuple(answer["versions"]) for answer in answers.values()} == {("r1",)}
        assert len(pids(project, "lock_waiting")) == 3
        assert pids(project, "database_ready") == set(answers)
        leaders = [
            line["pid"]
            for line in project.journal()
            if line["event"] == "database_ready" and line["led"]
        ]
        assert len(leaders) == 1
        assert leaders[0] not in pids(project, "lock_waiting")
        lines = (project.path / "uvicorn.log").read_text().splitlines()
        told = [line.partition(": ")[2] for line in lines if line.startswith("orchestrator: ")]
        assert sum(line.startswith("migrated base → r1 in ") for line in told) == 1
        waited = [line for line in told if f" for pid {leaders[0]}, now at r1" in line]
        assert len(waited) == 3

    def test_a_failed_migration(self, project: Project) -> None:
        """The error's own words; no chain of causes, and one frame of this library at most."""
        project.revision("r1", None, "raise ValueError('no')")
        process, _ = start_uvicorn(project)
        try:
            code = process.wait(DEADLINE_SECONDS)
        finally:
            end(process)

        log = (project.path / "uvicorn.log").read_text()
        assert code not in (0, None)
        first = log.partition("Traceback")[0]
        assert "orchestrator: failed: The upgrade failed at revision r1" in first, log
        assert "ValueError: no" in first
        assert log.count("Traceback") == 1
        assert "The above exception" not in log
        library = str(Path(orchestrator.__file__).parent)
        assert log.count(f'File "{library}') <= 1
        assert "orchestrator.errors.TaskFailed: The upgrade failed at revision r1" in log
        assert "Mend the revision and start again." in log
        assert len(log.splitlines()) < 60


def pids(project: Project, event: str) -> set[int]:
    return {line["pid"] for line in project.journal() if line["event"] == event}


def ask_until_all(port: int, workers: int) -> dict[int, Any]:
    """The answer of each worker, asked by several clients at once until all have answered."""
    answers: dict[int, Any] = {}
    deadline = time.monotonic() + DEADLINE_SECONDS

    def ask() -> None:
        while len(answers) < workers and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as got:
                    answer = json.load(got)
                answers[answer["pid"]] = answer
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)  # no worker serves yet

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert len(answers) == workers, answers
    return answers
