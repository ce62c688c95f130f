"""What the tests of the pass of `env.py` share."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from orchestrator import Orchestrator, RunReport, Settings
from tests.projects import Project, make_project

Migrate = Callable[..., RunReport]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project whose `env.py` imports nothing of the project: it runs in this process."""
    project = make_project(tmp_path)
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )
    return project


@pytest.fixture
def migrate(project: Project, monkeypatch: pytest.MonkeyPatch) -> Migrate:
    """Run the orchestrator on the project, in this process."""
    monkeypatch.chdir(project.path)

    def migrate(**settings: Any) -> RunReport:
        given = {"database_url": project.url, "script_location": "migrations", **settings}
        return anyio.run(Orchestrator(Settings(**given)).run)

    return migrate


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that an `env.py` of the test can import, to fill by the test."""
    module = ModuleType("application")
    monkeypatch.setitem(sys.modules, "application", module)
    return module


@pytest.fixture
def rows(project: Project) -> Callable[[str], list[Any]]:
    """Ask the project's database, on a connection of its own."""

    def rows(statement: str) -> list[Any]:
        connection = sqlite3.connect(project.database)
        try:
            found = connection.execute(statement).fetchall()
            connection.commit()
            return found
        finally:
            connection.close()

    return rows
