"""The gate under a real server, with real signals."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from tests.projects import Project

DEADLINE_SECONDS = 60.0

GATED = """
import pathlib
while not (pathlib.Path(__file__).parents[2] / "go").exists():
    time.sleep(0.01)
"""
APPLICATION = """
import os
from contextlib import asynccontextmanager

from fastapi import FastAPI
from orchestrator import Orchestrator
from orchestrator.asgi import Gate


@asynccontextmanager
async def lifespan(app):
    {starts}
    yield
    print("left", flush=True)


inner = FastAPI(lifespan=lifespan)


@inner.get("/favicon.ico")
@inner.get("/")
async def home() -> dict:
    return {{"pid": os.getpid()}}


app = Gate(inner, Orchestrator.from_config(){options})
"""


class Served:
    """A server in a process of its own."""

    def __init__(self, project: Project, process: subprocess.Popen[bytes], port: int) -> None:
        self.project = project
        self.process = process
        self.address = f"http://127.0.0.1:{port}/"

    @property
    def log(self) -> str:
        return (self.project.path / "uvicorn.log").read_text()

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON; 0 while nobody listens."""
        try:
            with urllib.request.urlopen(self.address + path[1:], timeout=10) as got:
                return got.status, json.load(got)
        except urllib.error.HTTPError as answer:
            with answer:
                return answer.code, json.load(answer)
        except OSError:
            return 0, None

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not condition():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)

    def wait(self) -> int:
        return self.process.wait(DEADLINE_SECONDS)


@contextmanager
def served(
    project: Project,
    *arguments: str,
    options: str = "",
    starts: str = "pass",
    **variables: str,
) -> Iterator[Served]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    project.write("served.py", APPLICATION.format(options=options, starts=starts))
    command = [sys.executable, "-m", "uvicorn", "served:app", "--port", str(port), *arguments]
    with (project.path / "uvicorn.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=project.path,
            env=project.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Served(project, process, port)
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        for number in ("", 1, 2, 3):  # a revision that waits would keep it from ending
            (project.path / f"go{number}").touch()
        try:
            process.wait(30)
        finally:
            process.kill()
            process.wait()


def test_four_workers_open_together(project: Project) -> None:
    """All serve at once, tell the same of the work, and open when one has done it."""
    project.revision("r1", None, GATED)
    project.revision("r2", "r1")
    with served(project, "--workers", "4") as server:
        journal = project.state / "journal.jsonl"
        server.until(lambda: journal.exists() and waiting(project) == 3)
        server.until(lambda: all(told(server) == ("migrating", 0, 2, 3) for _ in range(12)))
        assert server.get("/livez") == (200, {"status": "alive"})
        (project.path / "go").touch()
        server.until(lambda: all(server.get("/readyz")[0] == 200 for _ in range(12)))
        assert server.get("/")[0] == 200
    assert server.log.count("left") == 4


def waiting(project: Project) -> int:
    return len({line["pid"] for line in project.journal() if line["event"] == "lock_waiting"})


def told(server: Served) -> Any:
    values = server.get("/readyz")[1] or {}
    return tuple(
        values.get(key) for key in ("status", "revisions_done", "revisions_total", "waiting")
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_migrates(project: Project, number: signal.Signals) -> None:
    """The revision is finished and kept, and the next one is not begun."""
    project.revision("r1", None, GATED)
    project.revision("r2", "r1")
    with served(project) as server:
        server.until(lambda: server.get("/readyz")[1] is not None and at_revision(project))
        server.process.send_signal(number)
        server.until(lambda: "Waiting for application shutdown" in server.log)
        (project.path / "go").touch()
        server.wait()
    assert "Traceback" not in server.log, server.log
    assert [line["event"] for line in project.journal()][-1] == "run_cancelled"
    assert project.run("status", "--json").json["versions"] == ["r1"]


def at_revision(project: Project) -> bool:
    return any(line["event"] == "revision_started" for line in project.journal())


@pytest.mark.parametrize("arguments", [(), ("--lifespan", "off")])
def test_a_failure_may_end_the_process(project: Project, arguments: tuple[str, ...]) -> None:
    """With the exit code of the error, and its words."""
    project.revision("r1", None, "raise ValueError('no')")
    with served(project, *arguments, options=', on_failure="exit"') as server:
        if arguments:  # the first request starts it
            server.until(lambda: server.get("/livez")[0] == 200)
        assert server.wait() == 1
    assert "ValueError: no" in server.log
    assert "Traceback" not in server.log


def test_an_application_that_does_not_start_ends_the_process(project: Project) -> None:
    """By default: nobody would start it again."""
    project.chain(1)
    with served(project, starts='raise RuntimeError("no broker")') as server:
        assert server.wait() == 1
    assert "The application did not start." in server.log
    assert "no broker" in server.log
