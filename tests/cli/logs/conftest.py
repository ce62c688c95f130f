"""A journal that real processes have written, and `orchestrator logs` on it."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from orchestrator.cli.logs.commands import app
from tests.journals import write_starts

Logs = Callable[..., Result]

# Before Click 8.2 stderr has to be asked for; since then there is no such argument.
_APART: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
)
RUNNER = CliRunner(**_APART)


@pytest.fixture(scope="session")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where every test has its journal from: real processes have written it, all at once."""
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    write_starts(path)
    return path


@pytest.fixture
def logs(journal: Path, monkeypatch: pytest.MonkeyPatch) -> Logs:
    """Run a command on that journal, as if its output went into a pipe."""
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, on: Path | str | None = None, stdin: bytes | None = None) -> Result:
        command = [*arguments, "--journal", str(on or journal)]
        return RUNNER.invoke(app, command, input=stdin)

    return run
