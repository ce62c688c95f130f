"""`orchestrator init`: the start of a new project."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.projects import MODELS, Existing, assert_ready
from tests.projects import Finished
from tests.zygote import Zygote

Run = Callable[..., Finished]


@pytest.fixture
def run(zygote: Zygote) -> Run:
    """Run the command line in a project, forked."""
    return lambda project, *arguments: zygote.run(project, *arguments, processes=1)[0]


def others(path: Path) -> list[Path]:
    """What is in a directory, besides the output of the processes."""
    return sorted(one for one in path.rglob("*") if one.suffix not in (".out", ".err"))


def alembic(project: Existing, *arguments: str) -> Finished:
    ended = subprocess.run(
        [sys.executable, "-m", "alembic", *arguments],
        cwd=project.path,
        env=project.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Finished(ended.returncode, ended.stdout, ended.stderr)


def test_what_it_says_can_be_typed(tmp_path: Path) -> None:
    """The commands that it names make a first revision of the models, and migrate by it."""
    project = Existing(tmp_path)
    project.write("models.py", MODELS)
    before = "[project]\nname = 'mine'  # kept"
    project.write("pyproject.toml", before)

    made = project.run("init", "--metadata", "models:metadata")

    assert made.code == 0, made.stderr
    assert 'alembic revision --autogenerate -m "first"' in made.stdout
    assert "orchestrator run" in made.stdout
    assert (tmp_path / "pyproject.toml").read_text().startswith(before)
    generated = alembic(project, "revision", "--autogenerate", "-m", "first", "--rev-id", "r1")
    assert generated.code == 0, generated.stderr
    assert_ready(project.run("run", "--json"), "r1")
    assert project.tables() == ["alembic_version", "artists"]
    assert alembic(project, "check").code == 0


def test_without_metadata(tmp_path: Path) -> None:
    """Where no metadata is named, it says what is still to be written."""
    project = Existing(tmp_path)

    made = project.run("init", "db/scripts", "--database-url", "sqlite:///var/my.db")

    assert made.code == 0, made.stderr
    assert "db/scripts/env.py" in made.stdout
    tables = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]
    assert tables["orchestrator"] == {"database_url": "sqlite:///var/my.db"}
    assert tables["alembic"]["script_location"] == "%(here)s/db/scripts"
    ready = project.run("run", "--json")
    assert ready.code == 0, ready.stderr


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("migrations/env.py", "mine"),
        ("alembic.ini", "[alembic]\nscript_location = elsewhere\n"),
        ("pyproject.toml", "[tool.orchestrator]\ntarget = 'heads'\n"),
        ("pyproject.toml", "[tool.alembic]\nscript_location = 'elsewhere'\n"),
        ("pyproject.toml", "not toml"),
    ],
)
def test_never_over_an_existing_file(tmp_path: Path, run: Run, name: str, text: str) -> None:
    """What is there already stays as it is, and nothing is written beside it."""
    project = Existing(tmp_path)
    file = project.write(name, text)
    before = others(tmp_path)

    made = run(project, "init")

    assert made.code == 2
    assert "Traceback" not in made.stderr
    assert file.read_text() == text
    assert others(tmp_path) == before


@pytest.mark.parametrize("arguments", [["../up"], ["/tmp"], ["--metadata", "import os; x:y"]])
def test_wrong_arguments(tmp_path: Path, run: Run, arguments: list[str]) -> None:
    """A directory elsewhere, and what is no name in a module, are refused."""
    project = Existing(tmp_path)

    made = run(project, "init", *arguments)

    assert made.code == 2, made.stdout
    assert others(tmp_path) == []
