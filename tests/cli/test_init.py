"""`orchestrator init`: the start of a new project."""

from __future__ import annotations

import shutil
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
    assert 'orchestrator revision --autogenerate -m "first"' in made.stdout
    assert "orchestrator run" in made.stdout
    assert (tmp_path / "pyproject.toml").read_text().startswith(before)
    generated = project.run("revision", "--autogenerate", "-m", "first", "--rev-id", "r1")
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


@pytest.mark.parametrize("variable", ["DATABASE_URL", "ORCHESTRATOR_DATABASE_URL"])
def test_a_variable_names_the_database(tmp_path: Path, variable: str) -> None:
    """Then nothing is written down that would outrank it, and the run goes by the variable."""
    project = Existing(tmp_path)
    url = {variable: "sqlite:///by_variable.db"}
    made = project.run("init", **url)
    assert made.code == 0, made.stderr
    tables = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]
    assert tables["orchestrator"] == {}
    assert "by_variable.db" in made.stdout  # for .gitignore
    assert project.run("run", "--json", **url).code == 0
    assert not (tmp_path / "app.db").exists()


def test_a_password_is_not_written_down(tmp_path: Path) -> None:
    """Not into a file that is committed; it says what to do instead."""
    project = Existing(tmp_path)
    made = project.run("init", "--database-url", "postgresql://me:s3cret-enough@host/name")
    assert made.code == 0, made.stderr
    assert "s3cret" not in (tmp_path / "pyproject.toml").read_text() + made.stdout + made.stderr
    assert "set the variable DATABASE_URL to it" in made.stdout
    (tmp_path / "second").mkdir()
    passwordless = Existing(tmp_path / "second")
    url = "postgresql://me@host/name"
    assert passwordless.run("init", "--database-url", url).code == 0
    assert url in (passwordless.path / "pyproject.toml").read_text()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("migrations/env.py", "mine"),
        ("alembic.ini", "[alembic]\nscript_location = elsewhere\n"),
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


def test_beside_a_table_of_its_own(tmp_path: Path, run: Run) -> None:
    """What [tool.orchestrator] says stays; only what it lacks is said to be missing."""
    project = Existing(tmp_path)
    for said, told in (('app = "main:app"', False), ('target = "heads"', True)):
        project.write("pyproject.toml", f"[tool.orchestrator]\n{said}\n")

        made = run(project, "init", "--database-url", "sqlite:///mine.db")

        assert made.code == 0, made.stderr
        tables = tomllib.loads((tmp_path / "pyproject.toml").read_text())["tool"]
        assert list(tables["orchestrator"]) == [said.split()[0]]
        assert tables["alembic"]["script_location"] == "%(here)s/migrations"
        wanted = 'Name the database in [tool.orchestrator]: database_url = "sqlite:///mine.db"'
        assert (wanted in made.stdout) == told
        shutil.rmtree(tmp_path / "migrations")


def test_after_the_scripts_were_deleted(tmp_path: Path, run: Run) -> None:
    """It says that they are gone, and what is in the way of new ones."""
    project = Existing(tmp_path)
    assert run(project, "init").code == 0
    shutil.rmtree(tmp_path / "migrations")

    made = run(project, "init")

    assert made.code == 2
    assert "they do not exist" in made.stderr
    assert "take `script_location` out of alembic.ini, or the table [tool.alembic]" in made.stderr


@pytest.mark.parametrize("arguments", [["../up"], ["/tmp"], ["--metadata", "import os; x:y"]])
def test_wrong_arguments(tmp_path: Path, run: Run, arguments: list[str]) -> None:
    """A directory elsewhere, and what is no name in a module, are refused."""
    project = Existing(tmp_path)

    made = run(project, "init", *arguments)

    assert made.code == 2, made.stdout
    assert others(tmp_path) == []


SQLMODEL = {
    "sqlmodel/__init__.py": """
        from sqlalchemy.orm import DeclarativeBase

        class SQLModel(DeclarativeBase):
            pass
    """,
    "sqlmodel/sql/__init__.py": "",
    "sqlmodel/sql/sqltypes.py": """
        from sqlalchemy import String, types

        class AutoString(types.TypeDecorator):
            impl = String
            cache_ok = True
    """,
    "models.py": """
        import sqlalchemy as sa
        from sqlmodel import SQLModel
        from sqlmodel.sql.sqltypes import AutoString

        class Artist(SQLModel):
            __tablename__ = "artists"
            id = sa.Column(sa.Integer, primary_key=True)
            name = sa.Column(AutoString(length=20))
    """,
}
"""A package of the same shape as SQLModel, and models as its users write them."""


def test_the_first_revision_of_sqlmodel_runs(tmp_path: Path) -> None:
    """It imports what SQLModel's types are of, and only then."""
    project = Existing(tmp_path)
    for name, text in SQLMODEL.items():
        project.write(name, text)
    assert project.run("init", "--metadata", "models:SQLModel.metadata").code == 0

    made = project.run("revision", "--autogenerate", "-m", "first", "--rev-id", "r1")

    assert made.code == 0, made.stderr
    [file] = tmp_path.glob("migrations/versions/*.py")
    assert "import sqlmodel.sql.sqltypes\n" in file.read_text()
    assert_ready(project.run("run", "--json"), "r1")
    assert project.tables() == ["alembic_version", "artists"]
    project.replace("models.py", "AutoString(length=20)", "AutoString(length=20)),\n"
                    "    year = (sa.Column(sa.Integer)")  # fmt: skip
    made = project.run("revision", "--autogenerate", "-m", "second", "--rev-id", "r2")
    assert made.code == 0, made.stderr
    [file] = tmp_path.glob("migrations/versions/r2*.py")
    assert "'year'" in file.read_text()
    assert "sqlmodel" not in file.read_text()


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("absent.models:metadata", ("no module absent,", "working directory")),
        ("models.absent:metadata", ("no module models.absent,",)),
        (
            "broken:metadata",
            ("broken cannot be imported", "ZeroDivisionError", "broken.py, line 2"),
        ),
        ("lacking:metadata", ("No module named 'nowhere'", "lacking.py, line 1")),
        ("leaves:metadata", ("leaves cannot be imported: SystemExit", "leaves.py, line 1")),
        ("models:metadatta", ("models has no metadatta", "There is models:metadata.")),
        ("models:artists", ("artists of the module models is no MetaData", "type Table")),
        ("based:Base", ("type DeclarativeAttributeIntercept", "There is based:Base.metadata.")),
    ],
)
def test_metadata_that_is_not_there(
    tmp_path: Path, run: Run, named: str, words: tuple[str, ...]
) -> None:
    """It is told in words what is wrong with it, and nothing is written."""
    project = Existing(tmp_path)
    project.write("models.py", MODELS)
    project.write("broken.py", "print('noise')\n1 / 0\n")
    project.write("lacking.py", "import nowhere\n")
    project.write("leaves.py", "raise SystemExit(0)\n")
    project.write(
        "based.py",
        """
        import sqlalchemy as sa
        from sqlalchemy.orm import DeclarativeBase

        class Base(DeclarativeBase):
            pass

        class Artist(Base):
            __tablename__ = "artists"
            id = sa.Column(sa.Integer, primary_key=True)
        """,
    )
    made = run(project, "init", "--metadata", named)

    assert made.code == 2, made.stdout
    assert [word for word in (*words, "Nothing was written.") if word not in made.stderr] == []
    assert "Traceback" not in made.stderr
    assert made.stdout == ""
    assert not (tmp_path / "migrations").exists()
    assert not (tmp_path / "pyproject.toml").exists()


def test_metadata_without_tables(tmp_path: Path, run: Run) -> None:
    """There may be none yet; that the models have to be imported is said."""
    project = Existing(tmp_path)
    project.write("models.py", "import sqlalchemy as sa\nmetadata = sa.MetaData()\n")

    made = run(project, "init", "--metadata", "models:metadata")

    assert (made.code, "models:metadata has no tables yet" in made.stderr) == (0, True)


@pytest.mark.parametrize(
    ("ignored", "told"),
    [
        (None, "Add to .gitignore: app.db*  .app.db.orchestrator/\n"),
        ("", "Add to .gitignore: app.db*  .app.db.orchestrator/\n"),
        ("*.db\n", "Add to .gitignore: .app.db.orchestrator/\n"),
        ("*.db\n.*.orchestrator\n", "git ignores app.db and .app.db.orchestrator/ already.\n"),
    ],
    ids=["no repository", "none", "one", "both"],
)
def test_what_git_should_ignore(tmp_path: Path, run: Run, ignored: str | None, told: str) -> None:
    """The database's file and the state directory, unless git ignores them already."""
    project = Existing(tmp_path)
    if ignored is not None:
        if shutil.which("git") is None:
            pytest.skip("there is no git")
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
        project.write(".gitignore", ignored)

    assert told in run(project, "init").stdout


def test_what_is_no_matter_of_git(tmp_path: Path, run: Run) -> None:
    """A database that lies elsewhere, of which nothing is said; a URL that is none is an error."""
    project = Existing(tmp_path)

    wrong = run(project, "init", "--database-url", "app.db")
    assert wrong.code == 2
    assert others(tmp_path) == []
    made = run(project, "init", "--database-url", f"sqlite:///{tmp_path.parent}/elsewhere.db")
    assert (made.code, "git" in made.stdout) == (0, False)


def test_where_nothing_can_be_written(tmp_path: Path, run: Run) -> None:
    """It says so."""
    project = Existing(tmp_path)
    project.write("in", "a file, where a directory would have to be made")

    made = run(project, "init", "in/migrations")

    assert (made.code, "in/migrations cannot be written" in made.stderr) == (2, True), made.stderr
    assert "Traceback" not in made.stderr
