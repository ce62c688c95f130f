"""Settings that the application's code has, and those that the command line adds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from orchestrator.cli.application import orchestrator_of
from orchestrator.errors import OPTIONS, ConfigurationError
from tests.projects import Project

MODULE = """
import functools
from contextlib import asynccontextmanager

from fastapi import APIRouter, FastAPI

from orchestrator import Orchestrator, Settings
from orchestrator.asgi import Gate
from orchestrator.lifespan import migrated

orchestrator = Orchestrator(Settings(database_url="sqlite:///own.db", release="own"))
other = Orchestrator(Settings(database_url="sqlite:///other.db"))


@asynccontextmanager
async def own_lifespan(app):
    await orchestrator.run()
    yield


@asynccontextmanager
async def over_others(app):
    async with own_lifespan(app):
        yield


@asynccontextmanager
async def of_two(app):
    await orchestrator.run()
    await other.run()
    yield


def make_app():
    app = FastAPI(lifespan=migrated(orchestrator))
    app.include_router(APIRouter())
    return app


def broken_factory():
    raise LookupError("no such luck")


class Namespace:
    inner = orchestrator


app = make_app()
gate = Gate(FastAPI(), orchestrator)
with_middleware = FastAPI()
with_middleware.add_middleware(Gate, orchestrator=orchestrator)
with_own_lifespan = FastAPI(lifespan=own_lifespan)
with_wrapped_lifespan = FastAPI(lifespan=over_others)
with_partial = FastAPI(lifespan=functools.partial(migrated(orchestrator)))
partial_factory = functools.partial(make_app)
with_two = FastAPI(lifespan=of_two)
without = FastAPI()
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("application")
    (path / "application_with_all.py").write_text(MODULE)
    return str(path)


@pytest.fixture(autouse=True)
def _there(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(module)
    monkeypatch.setattr(sys, "path", [module, *sys.path])


@pytest.mark.parametrize(
    "name",
    [
        "orchestrator",
        "Namespace.inner",
        "app",
        "make_app",
        "partial_factory",
        "with_own_lifespan",
        "with_wrapped_lifespan",
        "with_partial",
        "gate",
        "with_middleware",
    ],
)
def test_it_is_found(name: str) -> None:
    """As such, by an application that has it in its lifespan, and by a factory of one."""
    found = orchestrator_of(f"application_with_all:{name}", "--app")

    assert found.settings.release == "own"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("application_with_all", "must read MODULE:OBJECT"),
        (":app", "must read MODULE:OBJECT"),
        ("application_with_all:none", "has no `none`"),
        ("application_with_all:without", "has no orchestrator that can be seen"),
        ("application_with_all:with_two", "has several orchestrators. Name the `Orchestrator`"),
        ("application_with_all:broken_factory", "LookupError: no such luck"),
        ("application_with_nothing:app", "no module application_with_nothing"),
        ("application_with_all.deeper:app", "no module application_with_all.deeper"),
    ],
)
def test_what_is_not_found_is_told(name: str, words: str) -> None:
    """With what to name instead."""
    with pytest.raises(ConfigurationError) as caught:
        orchestrator_of(name, f"--app {name}")

    assert f"--app {name}" in str(caught.value)
    assert words in str(caught.value)


def test_a_module_that_fails_is_told_with_file_and_line(module: str) -> None:
    """And no password that its error names."""
    (Path(module) / "fails_on_import.py").write_text(
        "\nraise RuntimeError('cannot reach postgresql://u:hunter2@h/d')\n"
    )

    with pytest.raises(ConfigurationError, match=r"fails_on_import\.py, line 2") as caught:
        orchestrator_of("fails_on_import:app", "--app fails_on_import:app")

    assert "hunter2" not in str(caught.value)


def test_a_command_works_with_the_applications_database(project: Project) -> None:
    """Named by option, variable or key; options overrule what the code says."""
    project.chain(1)
    project.write(
        "main.py",
        """
        from orchestrator import Orchestrator, Settings

        print("imported")
        its = Orchestrator(Settings(database_url="sqlite:///its.db", mode="require"))
        """,
    )

    refused = project.run("run", "--json", "--app", "main:its")
    assert (refused.code, refused.json["error"]["type"]) == (4, "StateRefused")
    assert project.run("run", "--app", "main:its", "--mode", "migrate").code == 0
    assert (project.path / "its.db").exists()
    by_variable = project.run("status", "--json", ORCHESTRATOR_APP="main:its")
    assert (by_variable.json["database"], by_variable.json["state"]) == (
        "sqlite:///its.db",
        "current",
    )
    project.write("pyproject.toml", '[tool.orchestrator]\napp = "main:its"\n')
    over = project.run("status", "--json", "--database-url", "sqlite:///else.db")
    assert (over.json["database"], over.json["state"]) == ("sqlite:///else.db", "absent")
    shown = project.run("plan", "--json")
    assert shown.json["state"] == "current"


def test_any_setting_can_be_set_on_the_spot(project: Project) -> None:
    """As the advice of an error says it; a list as JSON; an option of its own comes first."""
    project.chain(1)

    done = project.run("run", "--json", "--set", "release=1.2", "--set", "journal=own.jsonl")
    assert done.code == 0
    assert '"release":"1.2"' in (project.path / "own.jsonl").read_text()
    both = project.run("status", "--json", "--set", "database_url=sqlite:///a.db")
    assert both.json["database"] == "sqlite:///a.db"
    first = project.run(
        "status",
        "--json",
        "--set",
        "database-url=sqlite:///a.db",
        "--database-url",
        "sqlite:///b.db",
    )
    assert first.json["database"] == "sqlite:///b.db"
    assert project.run("status", "--set", 'x_args=["a=1","b=2"]').code == 0


@pytest.mark.parametrize("setting", OPTIONS)
def test_the_options_that_advice_names_exist(setting: str, project: Project) -> None:
    """On `orchestrator run`, which takes them all but what only `check` works with."""
    command = "check" if setting == "accepted_differences" else "run"
    assert f" {OPTIONS[setting]} " in project.run(command, "--help").stdout


def test_the_version_is_told(project: Project) -> None:
    """Of this library and of those that decide what it does."""
    told = project.run("--version").stdout

    assert told.startswith("orchestrator ")
    assert "alembic" in told.lower()
    assert "sqlalchemy" in told.lower()


def test_verbose_may_stand_before_the_command(project: Project) -> None:
    """As `-v` of many programs does."""
    before = project.run("-v", "status", "--set", "mode=x")
    after = project.run("status", "-v", "--set", "mode=x")

    assert "Traceback" in before.stderr
    assert before.stderr == after.stderr


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("orchestrator sta", ["stamp", "status"]),
        ("orchestrator run --mode ", ["migrate", "follow", "require"]),
        ("orchestrator check --against ", ["database", "migrations"]),
        ("orchestrator run --set unv", ["unversioned="]),
        ("orchestrator logs s", ["show", "starts"]),
    ],
)
def test_a_shell_completes_commands_and_values(
    project: Project, typed: str, completed: list[str]
) -> None:
    """By the script that `--show-completion` prints."""
    done = project.run(
        COMP_WORDS=typed,
        COMP_CWORD=str(len(typed.split(" ")) - 1),
        _ORCHESTRATOR_COMPLETE="complete_bash",
    )

    assert done.stdout.split() == completed


def test_a_table_in_a_pipe_has_no_trailing_blanks(project: Project) -> None:
    """What is read by programs, and compared."""
    project.chain(1)

    lines = project.run("status").stdout.splitlines()

    assert lines
    assert [line for line in lines if line != line.rstrip()] == []


@pytest.mark.parametrize(
    "typed",
    [
        "postgresql://u:hunter2@h/db",
        "database_url:postgresql://u:hunter2@h/db",
        "postgresql://u:hunter2@h/db?x=1",
        "u:hunter2@h/db=3",
    ],
)
def test_a_url_in_the_wrong_place_is_not_shown(project: Project, typed: str) -> None:
    """Neither in words, nor as JSON, nor in a traceback."""
    done = project.run("status", "--json", "--verbose", "--set", typed)

    assert done.code == 2
    assert "NAME=VALUE" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr


def test_an_error_of_this_library_that_an_application_raises_is_redacted_too(module: str) -> None:
    """It may quote a URL."""
    (Path(module) / "fails_with_ours.py").write_text(
        "from orchestrator import ConfigurationError\n"
        "raise ConfigurationError('bad postgresql://u:hunter2@h/d')\n"
    )

    with pytest.raises(ConfigurationError) as caught:
        orchestrator_of("fails_with_ours:app", "--app fails_with_ours:app")

    assert "hunter2" not in str(caught.value)


def test_an_empty_value_gives_nothing(project: Project) -> None:
    """As of a variable of the shell that is not set."""
    project.chain(1)

    assert project.run("run", "--set", "state_dir=", "--set", "app=").code == 0
    assert project.state.is_dir()
    assert not (project.path / "lock").exists()


def test_the_journal_of_the_applications_database_is_read(project: Project) -> None:
    """`logs` finds it by the same settings as `run`."""
    project.chain(1)
    project.write(
        "main.py",
        """
        from orchestrator import Orchestrator, Settings

        its = Orchestrator(Settings(database_url="sqlite:///its.db", script_location="migrations"))
        """,
    )
    assert project.run("run", "--app", "main:its").code == 0

    for told in (
        project.run("logs", "--json", "--app", "main:its"),
        project.run("logs", "runs", "--json", ORCHESTRATOR_APP="main:its"),
        project.run("logs", "runs", "--json", "--set", "app=main:its"),
    ):
        assert [run["database"] for run in told.json["runs"]] == ["sqlite:///its.db"], told.stderr
