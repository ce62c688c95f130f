"""Metrics in the registry of Prometheus's client, of one process and of several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from orchestrator import Orchestrator, OrchestratorError, Settings
from orchestrator.telemetry.prometheus import Prometheus
from tests.projects import Project, finish

SHOWS = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
print(generate_latest(registry).decode())
"""
RUNS = """
import anyio
from orchestrator import Orchestrator
anyio.run(Orchestrator.from_config(telemetry="prometheus", log="off").run)
"""


def test_what_a_run_adds(project: Project) -> None:
    """Runs by outcome, revisions, durations, and how many are pending."""
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    project.chain(2)
    registry = CollectorRegistry()
    settings = Settings(
        database_url=project.url, script_location=str(project.path / "migrations"), log="off"
    )
    orchestrator = Orchestrator(settings, sinks=[Prometheus(registry)])
    anyio.run(orchestrator.run)
    anyio.run(orchestrator.run)
    project.revision("r3", "r2", "raise ValueError")
    with pytest.raises(OrchestratorError):
        anyio.run(orchestrator.run)

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    runs = "migration_runs_total"
    assert value(runs, command="run", outcome="ready", led="true") == 1
    assert value(runs, command="run", outcome="ready", led="false") == 1
    assert value(runs, command="run", outcome="failed", led="true") == 1
    assert value("migration_revisions_applied_total", command="run") == 2
    assert value("migration_revision_duration_seconds_count", command="run") == 2
    assert value("migration_revisions_pending") == 1
    assert b"# HELP migration_runs_total Runs that have ended." in generate_latest(registry)


def test_of_several_workers(project: Project, tmp_path: Path) -> None:
    """In the client's multi-process mode the figures are those of all."""
    project.chain(2)
    directory = tmp_path / "metrics"
    directory.mkdir()
    environment = project.environment(PROMETHEUS_MULTIPROC_DIR=str(directory))
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", RUNS],
            cwd=project.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for worker in workers:
        assert finish(worker).code == 0
    shown = subprocess.run(
        [sys.executable, "-c", SHOWS], env=environment, capture_output=True, text=True, check=True
    ).stdout
    lines = dict(line.rsplit(" ", 1) for line in shown.splitlines() if line[:1] not in ("#", ""))
    led = 'migration_runs_total{command="run",led="%s",outcome="ready"}'
    assert (float(lines[led % "true"]), float(lines[led % "false"])) == (1, 2)
    assert float(lines['migration_revisions_applied_total{command="run"}']) == 2
    assert float(lines["migration_revisions_pending"]) == 0
