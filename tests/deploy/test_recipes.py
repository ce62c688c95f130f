"""The other recipes: a start script, systemd's units, Docker's files; each as a process."""

from __future__ import annotations

import configparser
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dockerfile_parse import DockerfileParser

from tests.deploy.cluster import DEPLOY, answered, free_port, soon
from tests.projects import Project

pytestmark = pytest.mark.slow

ENV_PY = "from orchestrator.environment import run_migrations\n\nrun_migrations()\n"
MAIN = """
from fastapi import FastAPI
from orchestrator import Orchestrator
from orchestrator.{module} import {name}

app = {made}
"""
GATED = MAIN.format(module="asgi", name="Gate", made="Gate(FastAPI(), Orchestrator.from_config())")
MIGRATED = MAIN.format(
    module="lifespan",
    name="migrated",
    made="FastAPI(lifespan=migrated(Orchestrator.from_config()))",
)


ENDED = {0, -signal.SIGTERM}
"""How uvicorn ends in order: its single process by the signal itself."""


@pytest.fixture
def shop(project: Project) -> Project:
    """An application with the gate, and two revisions."""
    project.write("migrations/env.py", ENV_PY)
    project.write("main.py", GATED)
    project.chain(2)
    return project


def started(project: Project, command: list[str], **variables: str) -> subprocess.Popen[bytes]:
    binaries = Path(sys.executable).parent
    environment = project.environment(
        PATH=f"{binaries}{os.pathsep}{os.environ['PATH']}", HOST="127.0.0.1", **variables
    )
    with (project.path / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=project.path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def ended(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    try:
        return process.wait(30)
    finally:
        process.kill()


class TestTheStartScript:
    """`start.sh`: migrates, then serves."""

    script = str(DEPLOY / "start.sh")

    def test_it_is_a_script(self) -> None:
        assert subprocess.run(["sh", "-n", self.script], check=False).returncode == 0

    def test_it_migrates_and_serves(self, shop: Project) -> None:
        """And ends as the server does, which has its process."""
        shop.write("main.py", MIGRATED)
        port = free_port()
        for leads in (True, False):
            process = started(shop, [self.script], PORT=str(port), WORKERS="2")
            soon(lambda: answered(port, "/openapi.json", 1))
            assert ended(process) == 0
            ready = [one for one in shop.journal() if one["event"] == "database_ready"]
            assert [one["led"] for one in ready].count(True) == 1
            assert leads or len(ready) > 3

    def test_it_serves_nothing_that_is_not_migrated(self, shop: Project) -> None:
        """It ends with the exit code of the migration."""
        shop.revision("r3", "r2", "raise ValueError('bad')")
        process = started(shop, [self.script], PORT=str(free_port()))
        assert process.wait(60) == 1


def unit(name: str) -> dict[str, dict[str, str]]:
    """A unit's sections."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((DEPLOY / "systemd" / name).read_text())
    return {section: dict(parser[section]) for section in parser.sections()}


def command_of(name: str, instance: str) -> list[str]:
    command = unit(name)["Service"]["ExecStart"].replace("%i", instance)
    program, *arguments = shlex.split(command)
    return [sys.executable, "-m", Path(program).name, *arguments]


class TestSystemd:
    """The units, by systemd's own check, and as what they start."""

    @pytest.mark.parametrize("name", ["shop-migrate.service", "shop@.service"])
    def test_systemd_takes_it(self, name: str) -> None:
        """But for the program, which is not on this machine."""
        verify = shutil.which("systemd-analyze")
        if verify is None:
            pytest.skip("systemd-analyze is not installed")
        told = subprocess.run(
            [verify, "verify", str(DEPLOY / "systemd" / name)],
            capture_output=True,
            text=True,
            check=False,
        ).stderr
        lines = [line for line in told.splitlines() if "is not executable" not in line]
        assert [line for line in lines if "shop" in line] == []

    def test_a_job_and_two_instances(self, shop: Project) -> None:
        """The job migrates, both instances serve; a stop ends them in order."""
        job = started(shop, command_of("shop-migrate.service", ""))
        assert job.wait(60) == 0
        ports = [free_port(), free_port()]
        both = [started(shop, command_of("shop@.service", str(port))) for port in ports]
        for port in ports:
            soon(lambda port=port: answered(port, "/readyz", 1))  # type: ignore[misc]
        assert {ended(process) for process in both} <= ENDED

    def test_a_stop_lets_a_revision_finish(self, shop: Project) -> None:
        """By the signal and within the time that the unit gives."""
        service = unit("shop-migrate.service")["Service"]
        assert service["KillSignal"] == "SIGTERM"
        assert service["TimeoutStopSec"] == "5min"
        shop.revision("r3", "r2", seconds=2)
        shop.revision("r4", "r3")
        job = started(shop, command_of("shop-migrate.service", ""))
        soon(lambda: (shop.state / "journal.jsonl").exists() and _is_at(shop, "r3"))
        assert ended(job) == 128 + signal.SIGTERM
        assert shop.run("status", "--json").json["versions"] == ["r3"]


def _is_at(project: Project, revision: str) -> bool:
    return any(
        line["event"] == "revision_started" and line["revision"] == revision
        for line in project.journal()
    )


class TestDocker:
    """The image's command as its containers run it, and the compose files."""

    @pytest.mark.parametrize("name", ["compose.yaml", "compose.postgresql.yaml"])
    def test_compose_takes_it(self, name: str) -> None:
        """By its own check, where there is one; every stop has the time of a revision."""
        file = DEPLOY / "docker" / name
        services = yaml.safe_load(file.read_text())["services"]
        assert services["shop"]["stop_grace_period"] == "5m"
        assert services["shop"]["deploy"]["replicas"] == 4
        docker = shutil.which("docker")
        has_compose = (
            docker is not None
            and (
                subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
            ).returncode
            == 0
        )
        if not has_compose:
            pytest.skip("docker compose is not installed")
        assert docker is not None
        checked = subprocess.run(
            [docker, "compose", "-f", str(file), "config", "--quiet"],
            env={**os.environ, "POSTGRES_PASSWORD": "x"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr

    def test_the_image_is_one_to_run(self) -> None:
        """Not as root; the server itself gets the signals; no probe asks whether it is ready."""
        parser = DockerfileParser(
            fileobj=io.BytesIO((DEPLOY / "docker" / "Dockerfile").read_bytes())
        )
        found = [(one["instruction"], one["value"]) for one in parser.structure]
        known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "EXPOSE", "HEALTHCHECK"}
        assert {name for name, _ in found} - known == {"COMMENT", "STOPSIGNAL", "CMD"}
        last = dict(found)
        assert last["USER"] == "shop"
        assert json.loads(last["CMD"])[0] == "uvicorn"
        assert "/livez" in last["HEALTHCHECK"]
        assert "/readyz" not in last["HEALTHCHECK"]

    def test_four_replicas_on_one_volume(self, shop: Project) -> None:
        """One migrates; the healthcheck is answered while it does, all are ready afterwards."""
        shop.revision("r3", "r2", seconds=2)
        image = (DEPLOY / "docker" / "Dockerfile").read_text()
        [command] = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
        [checked] = re.findall(r"http://127.0.0.1:8000(/\w+)", image)
        service: Any = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())["services"]
        given = {
            name: str(value)
            for name, value in service["shop"]["environment"].items()
            if name != "DATABASE_URL"
        }
        ports = [free_port() for _ in range(service["shop"]["deploy"]["replicas"])]
        words = {"0.0.0.0": "127.0.0.1"}
        replicas = []
        for port in ports:
            program, *arguments = json.loads(command)
            arguments = [words.get(word, word).replace("8000", str(port)) for word in arguments]
            replicas.append(started(shop, [sys.executable, "-m", program, *arguments], **given))
        try:
            for port in ports:
                soon(lambda port=port: answered(port, checked, 1))  # type: ignore[misc]
            assert not any(answered(port, "/readyz", 1) for port in ports)
            for port in ports:
                soon(lambda port=port: answered(port, "/readyz", 1))  # type: ignore[misc]
        finally:
            codes = [ended(process) for process in replicas]
        assert set(codes) <= ENDED
        ready = [one["led"] for one in shop.journal() if one["event"] == "database_ready"]
        assert sorted(ready) == [False, False, False, True]


def test_an_entrypoint_of_a_current_database_is_quick(shop: Project) -> None:
    """It imports neither Alembic nor the scripts: what a warm start does not need."""
    assert started(shop, [sys.executable, "-m", "orchestrator", "run"]).wait(60) == 0
    process = started(shop, [sys.executable, "-X", "importtime", "-m", "orchestrator", "run"])
    assert process.wait(60) == 0
    assert "alembic.runtime" not in (shop.path / "log").read_text()
