"""What the leader says of its work when it cannot look at it."""

from __future__ import annotations

import sqlite3

import anyio
import pytest

from orchestrator import DatabaseUnavailable, Orchestrator, Settings, VerificationFailed
from orchestrator.run.leader import Leader
from orchestrator.run.proof import Found
from tests.projects import Project


async def _nobody_answers(project: Project, monkeypatch: pytest.MonkeyPatch) -> VerificationFailed:
    def ask(_: Leader) -> Found:
        raise DatabaseUnavailable("Nothing was changed.", url=project.url)

    monkeypatch.setattr(Leader, "_ask", ask)
    settings = Settings(database_url=project.url, script_location=str(project.path / "migrations"))
    with anyio.fail_after(60), pytest.raises(VerificationFailed) as raised:
        await Orchestrator(settings).run()
    return raised.value


@pytest.mark.anyio
async def test_work_that_cannot_be_proved_is_not_called_undone(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the commit no error says that nothing was changed; it says what to expect."""
    project.chain(2)
    monkeypatch.syspath_prepend(str(project.path))

    error = await _nobody_answers(project, monkeypatch)

    assert "The work was done" in str(error)
    assert "Nothing was changed" not in str(error)
    assert error.expected == ("r2",)
    with sqlite3.connect(project.database) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("r2",)]
    connection.close()
