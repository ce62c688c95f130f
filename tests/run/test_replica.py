"""On a replica, which can be read and locks nobody out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.projects import Finished, Project, make_project
from tests.servers.postgresql import PostgreSQLServer


@pytest.fixture(scope="module")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PostgreSQLServer, Project]]:
    """A server that became a replica with a database at r1, and the project."""
    project = make_project(tmp_path_factory.mktemp("replica"))
    project.revision("r1", None)
    server = PostgreSQLServer()
    try:
        ended = run(project, server, "run")
        assert ended.code == 0, ended.stderr
        server.become_replica()
        yield server, project
    finally:
        server.stop()


def run(project: Project, server: PostgreSQLServer, *arguments: str, **variables: str) -> Finished:
    given = {
        "ORCHESTRATOR_DATABASE_URL": server.url("postgres"),
        "ORCHESTRATOR_STATE_DIR": str(project.path / "state"),
        "ORCHESTRATOR_LOCK_TIMEOUT_SECONDS": "1",
        **variables,
    }
    return project.run(*arguments, **given)


@pytest.mark.parametrize("warm", ["on", "off"])
@pytest.mark.parametrize("command", ["run", "wait"])
def test_is_ready_at_its_target(
    replica: tuple[PostgreSQLServer, Project], command: str, warm: str
) -> None:
    """Whether it is remembered or found the long way; no lock is needed for that."""
    server, project = replica

    ended = run(project, server, command, "--json", ORCHESTRATOR_WARM_START=warm)

    assert ended.code == 0, ended.stderr
    assert (ended.json["versions"], ended.json["led"]) == (["r1"], False)


def test_is_not_migrated(replica: tuple[PostgreSQLServer, Project], tmp_path: Path) -> None:
    """With work to do it is refused, and whom to name is said."""
    server, _ = replica
    newer = make_project(tmp_path)
    newer.chain(2)

    ended = run(newer, server, "run", "--json")

    assert ended.code == 2, ended.stderr
    message = ended.json["error"]["message"]
    assert "read-only replica" in message
    assert "Name the primary" in message
    assert "Traceback" not in ended.stderr
