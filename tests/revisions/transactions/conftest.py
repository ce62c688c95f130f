"""A project on each kind of database, and its orchestrator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import Orchestrator, RunReport, Settings
from tests.databases.conftest import KINDS, Place, place_of
from tests.projects import Project


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database of each kind."""
    with place_of(request.param, tmp_path / "place") as place:
        yield place


@pytest.fixture
def orchestrator(
    place: Place, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Orchestrator]:
    """An orchestrator of the project on that database, in this process."""
    monkeypatch.chdir(project.path)

    def orchestrator(**settings: Any) -> Orchestrator:
        return Orchestrator(
            Settings(
                database_url=place.url,
                script_location="migrations",
                state_dir=project.path / "state",
                **settings,
            )
        )

    return orchestrator


@pytest.fixture
def run(orchestrator: Callable[..., Orchestrator]) -> Callable[..., RunReport]:
    """Run it."""
    return lambda **settings: anyio.run(orchestrator(**settings).run)
