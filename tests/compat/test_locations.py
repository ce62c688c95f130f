"""Where scripts lie, and what the version table is called."""

from __future__ import annotations

import compileall
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from tests.compat.projects import ENV_PY, INI, Existing, assert_failed, assert_ready, existing
from tests.projects import Finished
from tests.zygote import Zygote

Run = Callable[..., Finished]

LOCATION = "script_location = %(here)s/migrations"


def ini(*options: str, location: str = LOCATION, separator: str = "path_separator = os") -> str:
    lines = ["[alembic]", location, "prepend_sys_path = .", separator, *options]
    return "\n".join([*lines, "sqlalchemy.url = sqlite:///app.db", ""])


class TestScriptLocation:
    """`script_location`, however it is written."""

    @pytest.mark.parametrize(
        "location", ["migrations", "%(here)s/migrations", "ABSOLUTE", "package:scripts"]
    )
    def test_is_found(self, tmp_path: Path, run: Run, location: str) -> None:
        """A path, relative or absolute or by `%(here)s`, and `package:directory`."""
        written = location.replace("ABSOLUTE", str(tmp_path / "migrations"))
        project = existing(tmp_path, ini=ini(location=f"script_location = {written}"))
        project.revision("r1", None)
        if location.startswith("package"):
            project.write("package/__init__.py", "")
            (tmp_path / "migrations").rename(tmp_path / "package" / "scripts")

        assert_ready(run(project, "run", "--json"), "r1")
        assert_ready(run(project, "run", "--json"), "r1", led=False)
        assert project.tables() == ["alembic_version", "t_r1"]

    def test_is_found_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        """`package:directory`, where the package is found only by `prepend_sys_path`."""
        text = ini(location="script_location = package:scripts")
        text = text.replace("prepend_sys_path = .", "prepend_sys_path = .:src")
        project = existing(tmp_path, ini=text)
        project.revision("r1", None)
        project.write("src/package/__init__.py", "")
        (tmp_path / "migrations").rename(tmp_path / "src" / "package" / "scripts")

        assert_ready(project.run("run", "--json"), "r1")
        assert_ready(project.run("run", "--json"), "r1", led=False)

    def test_is_found_from_another_directory(self, tmp_path: Path, run: Run) -> None:
        """The variable `ALEMBIC_CONFIG` names the file, as for the `alembic` command."""
        project = existing(tmp_path, ini=INI.replace("= .", "= %(here)s"))
        project.revision("r1", None)
        project.write("deploy/orchestrator.toml", 'alembic_config = "../alembic.ini"')
        elsewhere = type(project)(tmp_path / "deploy")

        assert_ready(run(elsewhere, "run", "--config", "orchestrator.toml", "--json"), "r1")
        shutil.rmtree(elsewhere.state)
        elsewhere.database.unlink()
        assert_ready(elsewhere.run("run", "--json", ALEMBIC_CONFIG="../alembic.ini"), "r1")

    def test_of_pyproject(self, tmp_path: Path, run: Run) -> None:
        """`[tool.alembic]` with lists, beside an `alembic.ini` that has no such section."""
        project = existing(tmp_path, ini="[loggers]\nkeys = root\n")
        project.write(
            "pyproject.toml",
            """
            [tool.alembic]
            script_location = "%(here)s/migrations"
            version_locations = ["%(here)s/migrations/versions", "%(here)s/more"]
            prepend_sys_path = ["%(here)s"]
            "sqlalchemy.url" = "sqlite:///app.db"
            """,
        )
        project.revision("r1", None)
        project.revision("r2", "r1").rename(project.write("more/x", "").with_name("r2.py"))

        assert_ready(run(project, "run", "--json"), "r2")
        assert_ready(run(project, "run", "--json"), "r2", led=False)


class TestSection:
    """`alembic -n NAME`: the sections of one ini file are projects of their own."""

    TWO = """
    [one]
    script_location = one
    sqlalchemy.url = sqlite:///app.db
    prepend_sys_path = .

    [two]
    script_location = two
    sqlalchemy.url = sqlite:///app.db
    prepend_sys_path = .
    """

    def project(self, path: Path) -> Existing:
        env = ENV_PY.replace(
            "target_metadata=metadata",
            "target_metadata=metadata, version_table=context.config.config_ini_section",
        )
        project = existing(path, env=env)
        project.write("alembic.ini", self.TWO)
        for name in ("one", "two"):
            project.write(
                f"{name}.toml",
                f"""
                database_url = "sqlite:///app.db"
                alembic_section = "{name}"
                unversioned = "upgrade"
                """,
            )
            project.revision(f"of_{name}", None)
            shutil.copytree(path / "migrations", path / name)
            (path / f"migrations/versions/of_{name}.py").unlink()
        return project

    def test_is_a_project_of_its_own(self, tmp_path: Path, run: Run) -> None:
        """Scripts, what `env.py` sees and what is remembered are those of the section."""
        project = self.project(tmp_path)
        for led in (True, False):
            for name in ("one", "two"):
                ended = run(project, "run", "--config", f"{name}.toml", "--json")
                assert_ready(ended, f"of_{name}", led=led)
                assert project.versions(name) == [f"of_{name}"]
        assert len(list(project.state.glob("heads-*.json"))) == 2

    def test_that_does_not_exist(self, tmp_path: Path, run: Run) -> None:
        """It is named; the section `alembic` is not read in its place."""
        project = self.project(tmp_path)
        project.write("alembic.ini", self.TWO.replace("[one]", "[alembic]"))
        ended = run(project, "run", "--config", "one.toml", "--json")
        assert_failed(ended, "ConfigurationError", "[one]")


class TestVersionLocations:
    """`version_locations` and what separates them."""

    @pytest.mark.parametrize(
        ("separator", "between"),
        [
            ("os", os.pathsep),
            ("space", " "),
            ("newline", "\n    "),
            (":", ":"),
            (";", ";"),
            (None, " "),
        ],
    )
    def test_are_several(
        self, tmp_path: Path, run: Run, separator: str | None, between: str
    ) -> None:
        """Revisions of two directories are one history, whatever separates the two names."""
        locations = between.join(("%(here)s/migrations/versions", "%(here)s/plugins"))
        separated = f"path_separator = {separator}" if separator else ""
        project = existing(
            tmp_path, ini=ini(f"version_locations = {locations}", separator=separated)
        )
        project.revision("r1", None)
        (tmp_path / "plugins").mkdir()
        project.revision("r2", "r1").rename(tmp_path / "plugins" / "r2.py")

        assert_ready(run(project, "run", "--json"), "r2")
        again = run(project, "run", "--json")
        assert_ready(again, "r2", led=False)

    def test_are_recursive(self, tmp_path: Path, run: Run) -> None:
        """`recursive_version_locations`, with the sub-directories that `file_template` makes."""
        options = (
            "file_template = %%(year)d/%%(rev)s_%%(slug)s",
            "recursive_version_locations = true",
        )
        project = existing(tmp_path, ini=ini(*options))
        template = Path(sys.modules[Config.__module__].__file__ or "").parent / "templates"
        shutil.copy(template / "generic" / "script.py.mako", tmp_path / "migrations")
        # Alembic 1.16 does not make it.
        (tmp_path / "migrations" / "versions" / time.strftime("%Y")).mkdir()
        for number in (1, 2):
            command.revision(
                Config(tmp_path / "alembic.ini"), f"number {number}", rev_id=f"r{number}"
            )
        assert [path.parent.parent.name for path in tmp_path.rglob("r2_*.py")] == ["versions"]

        assert_ready(project.run("run", "--json"), "r2")
        assert_ready(run(project, "run", "--json"), "r2", led=False)
        project.revision("r3", "r2").rename(next(tmp_path.rglob("r2_*.py")).with_name("r3.py"))
        assert_ready(run(project, "run", "--json"), "r3")

    @pytest.mark.parametrize("legacy", [True, False])
    def test_are_sourceless(self, tmp_path: Path, run: Run, legacy: bool) -> None:
        """`sourceless`: revisions as bytecode, beside the sources' place or in `__pycache__`."""
        project = existing(tmp_path, ini=ini("sourceless = true"))
        project.revision("r1", None)
        versions = tmp_path / "migrations" / "versions"
        compileall.compile_dir(versions, quiet=2, legacy=legacy)
        (versions / "r1.py").unlink()

        assert_ready(run(project, "run", "--json"), "r1")
        assert_ready(run(project, "run", "--json"), "r1", led=False)


@pytest.mark.parametrize("legacy", [True, False])
def test_env_py_is_sourceless(tmp_path: Path, run: Run, legacy: bool) -> None:
    """Bytecode in place of `env.py`, as Alembic runs it; where it is changed, it is run again."""
    project = existing(tmp_path, ini=ini("sourceless = true"))
    project.revision("r1", None)
    source = tmp_path / "migrations" / "env.py"

    def compiled(text: str) -> None:
        source.write_text(text)
        compileall.compile_file(source, quiet=2, legacy=legacy, force=True)
        source.unlink()

    compiled(ENV_PY)
    assert_ready(run(project, "run", "--json"), "r1")
    assert_ready(run(project, "run", "--json"), "r1", led=False)
    compiled(
        ENV_PY.replace("target_metadata=metadata", 'target_metadata=metadata, version_table="v2"')
    )
    assert_failed(run(project, "run", "--json"), "StateRefused", "no version row")


def test_import_path_does_not_grow(tmp_path: Path) -> None:
    """`prepend_sys_path` is in front once, however often a process runs."""
    project = existing(tmp_path)
    project.revision("r1", None)

    ended = project.python(
        """
        import anyio, sys
        from orchestrator import Orchestrator

        orchestrator = Orchestrator.from_config()
        anyio.run(orchestrator.run)
        once = list(sys.path)
        for _ in range(3):
            anyio.run(orchestrator.inspect)
        assert sys.path == once, sys.path
        assert sys.path[0] == ".", sys.path
        """,
        fresh=True,
    )

    assert ended.code == 0, ended.stderr


class TestVersionTable:
    """`version_table` and `version_table_schema` of their own."""

    @pytest.mark.parametrize("options", ['version_table="seen"', 'version_table_schema="main"'])
    def test_is_named_by_env_py(self, tmp_path: Path, run: Run, options: str) -> None:
        """The rows stand where `env.py` says, and the warm start looks there."""
        env = ENV_PY.replace("target_metadata=metadata", f"target_metadata=metadata, {options}")
        project = existing(tmp_path, env=env)
        project.revision("r1", None)
        table = "seen" if "seen" in options else "alembic_version"

        assert_ready(project.run("run", "--json"), "r1")
        assert_ready(run(project, "run", "--json"), "r1", led=False)
        assert project.versions(table) == ["r1"]
        project.revision("r2", "r1")
        assert run(project, "status", "--json").json["state"] == "behind"
        assert_ready(run(project, "run", "--json"), "r2")
        assert sorted(project.tables()) == sorted([table, "t_r1", "t_r2"])

    def test_is_in_an_attached_database(self, tmp_path: Path, run: Run) -> None:
        """That of an attached SQLite file no other connection sees: refused, nothing is made."""
        attach = "connection.exec_driver_sql(\"ATTACH 'more.db' AS more\")\n    connection.commit()"
        env = ENV_PY.replace("    context.configure", f"    {attach}\n    context.configure")
        env = env.replace("=metadata)", '=metadata, version_table_schema="more")')
        project = existing(tmp_path, env=env)
        project.revision("r1", None)

        assert_failed(run(project, "run", "--json"), "ConfigurationError", "attached", "'more'")
        assert project.tables() == []


ADDS_PLUGINS = """
from alembic import context
from sqlalchemy import create_engine, pool
from models import metadata

context.script.version_locations = ["migrations/versions", "plugins"]


def migrate():
    with create_engine("sqlite:///app.db", poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


{call}
"""
IN_A_THREAD = """
from concurrent.futures import ThreadPoolExecutor

with ThreadPoolExecutor(1) as executor:
    executor.submit(migrate).result()
"""


@pytest.mark.parametrize("call", ["migrate()", IN_A_THREAD], ids=["at once", "in a thread"])
class TestSetByEnvPy:
    """`env.py` that says by itself where more revisions lie: what it leaves is what counts."""

    @staticmethod
    def project(path: Path, call: str) -> Existing:
        project = existing(path, env=ADDS_PLUGINS.format(call=call))
        project.revision("r1", None)
        (path / "plugins").mkdir()
        project.revision("r2", "r1").rename(path / "plugins" / "r2.py")
        return project

    def test_an_absent_database(self, tmp_path: Path, run: Run, call: str) -> None:
        """Looking sees all revisions and makes nothing; a target may be among those."""
        project = self.project(tmp_path, call)

        plan = run(project, "plan", "--json")
        status = run(project, "status", "--json")

        assert [one["revision"] for one in plan.json["revisions"]] == ["r1", "r2"]
        assert (status.json["state"], status.json["heads"]) == ("absent", ["r2"])
        assert not project.database.exists()
        assert_ready(run(project, "run", "--target", "r2", "--json"), "r2")

    def test_a_whole_life(self, tmp_path: Path, run: Run, zygote: Zygote, call: str) -> None:
        """Migrated as by stock Alembic, and current afterwards."""
        stock = self.project(tmp_path / "stock", call)
        project = self.project(tmp_path / "ours", call)
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        assert_ready(run(project, "run", "--json"), "r2")

        assert project.dump() == stock.dump()
        status = run(project, "status", "--json").json
        assert (status["state"], status["pending"]) == ("current", [])
        assert_ready(run(project, "wait", "--json"), "r2", led=False)

    def test_is_asked_at_each_start(self, tmp_path: Path, run: Run, call: str) -> None:
        """It may have looked for them: a directory that is added is found at the next start."""
        found = 'sorted(__import__("glob").glob("plugins/*/versions"))'
        env = ADDS_PLUGINS.format(call=call).replace('"plugins"]', f"*{found}]")
        options = ini("version_locations = migrations/versions")  # so that nothing changes at first
        project = existing(tmp_path, env=env, ini=options)
        project.revision("r1", None)
        assert_ready(run(project, "run", "--json"), "r1")
        assert not list(project.state.glob("heads-*.json"))

        project.write("plugins/one/versions/r2.py", project.revision("r2", "r1").read_text())
        (tmp_path / "migrations/versions/r2.py").unlink()

        assert_ready(run(project, "run", "--json"), "r2")


def test_the_setting_wins_over_the_config(tmp_path: Path, run: Run) -> None:
    """`version_locations` names all directories, where `script_location` alone names only one."""
    project = existing(tmp_path)
    (tmp_path / "alembic.ini").unlink()
    project.revision("r1", None)
    (tmp_path / "plugins").mkdir()
    project.revision("r2", "r1").rename(tmp_path / "plugins" / "r2.py")
    project.write(
        "pyproject.toml",
        """
        [tool.orchestrator]
        database_url = "sqlite:///app.db"
        script_location = "migrations"
        version_locations = ["migrations/versions", "plugins"]
        """,
    )

    assert_ready(run(project, "run", "--json"), "r2")
    assert_ready(run(project, "run", "--json"), "r2", led=False)
