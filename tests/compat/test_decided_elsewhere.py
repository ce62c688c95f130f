"""`env.py` whose version table or database is decided by something else than the scripts."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.projects import ENV_PY, Existing, assert_failed, assert_ready, existing
from tests.projects import Finished
from tests.zygote import Zygote

Run = Callable[..., Finished]

BY_A_VARIABLE = ENV_PY.replace(
    "target_metadata=metadata",
    'target_metadata=metadata, version_table=__import__("os").environ.get("TABLE", "mine")',
)
BY_A_MODULE = ENV_PY.replace(
    "target_metadata=metadata",
    'target_metadata=metadata, version_table=__import__("conf").TABLE',
)


class TestWarmStart:
    """A database that is behind, as `env.py` would now see it, is never called ready."""

    def test_by_a_variable(self, tmp_path: Path, zygote: Zygote) -> None:
        """One that was not set when the target was remembered counts, too."""
        project = existing(tmp_path, env=BY_A_VARIABLE)
        project.chain(2)
        [first] = zygote.start(project, "run", "--json")
        assert_ready(first.finish(), "r2")

        [other] = zygote.start(project, "status", "--json", TABLE="other")
        [again] = zygote.start(project, "run", "--json", TABLE="other")

        assert other.finish().json["state"] == "unversioned"
        assert_failed(again.finish(), "StateRefused")
        [back] = zygote.start(project, "run", "--json")
        assert_ready(back.finish(), "r2", led=False)

    def test_by_a_module_of_the_project(self, tmp_path: Path, run: Run) -> None:
        """Edited since the target was remembered."""
        project = existing(tmp_path, env=BY_A_MODULE)
        project.write("conf.py", "TABLE = 'one'\n")
        project.chain(2)
        assert_ready(run(project, "run", "--json"), "r2")
        assert_ready(run(project, "run", "--json"), "r2", led=False)

        project.write("conf.py", "TABLE = 'other'\n")

        assert_failed(run(project, "run", "--json"), "StateRefused")

    def test_is_turned_off(self, tmp_path: Path, run: Run) -> None:
        """With `warm_start = "off"` nothing is remembered, nor is what was remembered used."""
        project = existing(tmp_path)
        project.chain(1)
        assert_ready(run(project, "run", "--json"), "r1")
        project.heads.unlink()
        project.write("pyproject.toml", '[tool.orchestrator]\nwarm_start = "off"\n')

        assert_ready(run(project, "run", "--json"), "r1", led=False)

        assert not list(project.state.glob("heads-*"))

    def test_of_two_projects_on_one_database(self, tmp_path: Path, run: Run) -> None:
        """Each remembers its own; neither takes the long way because of the other."""
        one, two = (
            existing(
                tmp_path / name,
                env=ENV_PY.replace(
                    "target_metadata=metadata", f"target_metadata=metadata, version_table='v{name}'"
                ),
                ini=f"[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"
                f"sqlalchemy.url = sqlite:///{tmp_path}/shared.db\n",
            )
            for name in ("one", "two")
        )
        for project in (one, two):
            project.write("pyproject.toml", '[tool.orchestrator]\nunversioned = "upgrade"\n')
        one.revision("a1", None)
        two.revision("b1", None)
        assert_ready(run(one, "run", "--json"), "a1")
        assert_ready(run(two, "run", "--json"), "b1")

        remembered = sorted((tmp_path / ".shared.db.orchestrator").glob("heads-*.json"))
        assert len(remembered) == 2
        times = [file.stat().st_mtime_ns for file in remembered]
        assert_ready(run(one, "run", "--json"), "a1", led=False)
        assert_ready(run(two, "run", "--json"), "b1", led=False)
        assert [file.stat().st_mtime_ns for file in remembered] == times


class TestAttributes:
    """Objects that `env.py` asks its `config.attributes` for."""

    ENV = ENV_PY.replace(
        "target_metadata=metadata",
        "target_metadata=metadata, version_table=context.config.attributes{ask}",
    )

    @pytest.mark.parametrize("ask", ['["table"]', '.get("table").lower()'])
    def test_are_told_where_they_are_lacking(self, tmp_path: Path, run: Run, ask: str) -> None:
        """The error says what is asked for, and how it is given."""
        project = existing(tmp_path, env=self.ENV.format(ask=ask))
        project.chain(1)

        assert_failed(
            run(project, "run", "--json"),
            "ConfigurationError",
            "'table'",
            "Orchestrator(settings, attributes={'table': …})",
        )

    def test_are_not_told_where_a_default_is_at_hand(self, tmp_path: Path, run: Run) -> None:
        """Who gives a default is prepared: another error is not told as if it came of that."""
        project = existing(tmp_path, env=self.ENV.format(ask='.get("table", 1 / 0)'))
        project.chain(1)

        message = assert_failed(run(project, "run", "--json"), "ConfigurationError", "ZeroDivision")
        assert "attributes" not in message

    def test_are_given_in_code(self, tmp_path: Path) -> None:
        """To a run, to what looks, and where `env.py` alone knows the URL; twice is once."""
        project = existing(tmp_path, env=self.ENV.format(ask='["table"].name'), ini=NO_URL)
        project.replace(
            "migrations/env.py", 'context.config.get_main_option("sqlalchemy.url")', "DATABASE"
        )
        project.replace(
            "migrations/env.py", "connectable =", 'DATABASE = "sqlite:///app.db"\nconnectable ='
        )
        project.chain(1)

        ended = project.python(
            """
            import anyio
            from orchestrator import Orchestrator, Settings

            class Table:
                name = "chosen"

            orchestrator = Orchestrator(Settings(), attributes={"table": Table()})
            assert anyio.run(orchestrator.inspect).state == "absent"
            first = anyio.run(orchestrator.run)
            second = anyio.run(orchestrator.run)
            assert (first.led, second.led) == (True, False), (first, second)
            """
        )

        assert ended.code == 0, ended.stderr
        assert project.versions("chosen") == ["r1"]
        assert not list(project.state.glob("heads-*"))  # nobody can tell what an object says

    def test_of_plain_values_are_remembered_with_the_target(self, tmp_path: Path) -> None:
        """A warm start serves who gives the same, and nobody else."""
        project = existing(tmp_path, env=self.ENV.format(ask='["table"]'))
        project.chain(1)

        ended = project.python(
            """
            import anyio
            from orchestrator import Orchestrator, Settings, StateRefused

            def run(table):
                settings = Settings(database_url="sqlite:///app.db")
                return anyio.run(Orchestrator(settings, attributes={"table": table}).run)

            assert run("one").led
            assert not run("one").led
            try:
                run("two")
            except StateRefused:
                print("refused")
            """
        )

        assert (ended.code, ended.stdout) == (0, "refused\n"), ended.stderr
        assert project.heads.exists()


NO_URL = "[alembic]\nscript_location = %(here)s/migrations\nprepend_sys_path = .\n"


def odd(path: Path, *statements: str, env: str = ENV_PY) -> Existing:
    """A project of two revisions on a database that these statements made."""
    project = existing(path, env=env)
    project.chain(2)
    connection = sqlite3.connect(project.database)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
    return project


class TestOddVersionRows:
    """What stands in a version table and is no revision."""

    TABLE = "CREATE TABLE alembic_version (version_num)"

    @pytest.mark.parametrize(
        "rows", [["(NULL)"], ["(NULL)", "('r1')"]], ids=["nothing", "nothing and one"]
    )
    def test_nothing_is_passed_over(
        self, tmp_path: Path, run: Run, zygote: Zygote, rows: list[str]
    ) -> None:
        """A NULL says nothing, as under stock Alembic."""
        made = [self.TABLE, *(f"INSERT INTO alembic_version VALUES {row}" for row in rows)]
        if len(rows) > 1:
            made.append("CREATE TABLE t_r1 (id INTEGER)")
        stock, project = odd(tmp_path / "stock", *made), odd(tmp_path / "ours", *made)
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        assert_ready(run(project, "run", "--json"), "r2")
        assert project.dump() == stock.dump()

    @pytest.mark.parametrize("value", ["7", "x'00ff'", "1.5"])
    def test_what_is_no_text_is_refused_in_words(
        self, tmp_path: Path, run: Run, value: str
    ) -> None:
        """Everywhere, as a version that no script has; and the advice leads out of it."""
        project = odd(tmp_path, self.TABLE, f"INSERT INTO alembic_version VALUES ({value})")

        assert_failed(run(project, "run", "--json"), "StateRefused", "(no text)", "stamp --purge")
        status = run(project, "status", "--json").json
        assert status["state"] == "unrecognised"
        assert "(no text)" in status["versions"][0]
        assert run(project, "stamp", "--purge", "base", "--json").code == 0
        assert project.versions() == []

    def test_a_row_that_stands_there_twice(self, tmp_path: Path, run: Run) -> None:
        """Where work is to be done it is refused, with the way out; where not, it is ready."""
        twice = "INSERT INTO alembic_version VALUES ('{0}'), ('{0}')"
        project = odd(tmp_path, self.TABLE, twice.format("r1"), "CREATE TABLE t_r1 (id INTEGER)")

        assert_failed(run(project, "run", "--json"), "StateRefused", "stamp --purge r1")
        assert run(project, "stamp", "--purge", "r1", "--json").code == 0
        assert_ready(run(project, "run", "--json"), "r2")

        at_head = odd(tmp_path / "head", self.TABLE, twice.format("r2"))
        assert run(at_head, "run", "--json").json["outcome"] == "ready"

    def test_a_table_of_that_name_that_is_another(
        self, tmp_path: Path, run: Run, zygote: Zygote
    ) -> None:
        """Beside a version table of another name it is a table like any other."""
        env = ENV_PY.replace("=metadata", "=metadata, version_table='mine'")
        made = "CREATE TABLE alembic_version (n INTEGER)"
        stock, project = (odd(tmp_path / name, made, env=env) for name in ("stock", "ours"))
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        assert_failed(run(project, "run", "--json"), "StateRefused", "alembic_version")
        project.write("pyproject.toml", '[tool.orchestrator]\nunversioned = "upgrade"\n')
        assert_ready(run(project, "run", "--json"), "r2")
        assert project.dump() == stock.dump()
        assert_ready(run(project, "run", "--json"), "r2", led=False)
        assert run(project, "status", "--json").json["state"] == "current"


def test_no_advice_leads_in_a_circle(tmp_path: Path, run: Run) -> None:
    """A stamp of `base`, which leaves no row, says what the next run will want."""
    project = odd(tmp_path, "CREATE TABLE t (n INTEGER)")
    assert_failed(run(project, "run", "--json"), "StateRefused", '`unversioned = "upgrade"`')

    [warning] = run(project, "stamp", "base", "--json").json["warnings"]

    assert '`unversioned = "upgrade"`' in warning
    project.write("pyproject.toml", '[tool.orchestrator]\nunversioned = "upgrade"\n')
    assert_ready(run(project, "run", "--json"), "r2")
    assert run(project, "stamp", "r1", "--json").json["warnings"] == []


class TestFollowing:
    """`wait` is ready where `run` would have nothing to do."""

    @staticmethod
    def wait(run: Run, project: Existing) -> Finished:
        return run(project, "wait", "--lock-timeout", "5", "--json")

    def test_a_version_that_is_accepted(self, tmp_path: Path, run: Run) -> None:
        """With `unrecognised = "accept"`, as after a later release has migrated."""
        project = odd(
            tmp_path,
            "CREATE TABLE alembic_version (version_num VARCHAR(32))",
            "INSERT INTO alembic_version VALUES ('later')",
        )
        project.write("pyproject.toml", '[tool.orchestrator]\nunrecognised = "accept"\n')

        assert_ready(run(project, "run", "--json"), "later", led=False)
        assert_ready(self.wait(run, project), "later", led=False)

    @pytest.mark.parametrize("statements", [(), ("CREATE TABLE t (n INTEGER)",)])
    def test_a_project_without_revisions(
        self, tmp_path: Path, run: Run, statements: tuple[str, ...]
    ) -> None:
        """It has nothing to be behind of."""
        project = odd(tmp_path, *statements)
        for file in (tmp_path / "migrations/versions").glob("*.py"):
            file.unlink()

        assert run(project, "run", "--json").json["outcome"] == "ready"
        assert self.wait(run, project).json["outcome"] == "ready"

    def test_a_project_that_has_none_yet(self, tmp_path: Path, run: Run, zygote: Zygote) -> None:
        """A new database gets its version table, as by stock Alembic."""
        stock, project = existing(tmp_path / "stock"), existing(tmp_path / "ours")
        assert zygote.alembic(stock, "upgrade", "heads").code == 0

        assert_ready(run(project, "run", "--json"), led=False)
        assert project.dump() == stock.dump()
        assert_ready(self.wait(run, project), led=False)

    def test_what_a_run_would_refuse_is_waited_for(self, tmp_path: Path, run: Run) -> None:
        """Somebody may see to it; at the deadline it is a timeout."""
        project = odd(tmp_path, "CREATE TABLE t (n INTEGER)")

        ended = run(project, "wait", "--lock-timeout", "0.5", "--json")

        assert_failed(ended, "LockTimeout")


def test_a_database_file_with_several_names_is_warned_of(tmp_path: Path, run: Run) -> None:
    """By who works on it: neither the lock nor SQLite's journal is found by the other name."""
    project = odd(tmp_path)
    (tmp_path / "other.db").hardlink_to(project.database)

    report = assert_ready(run(project, "run", "--json"), "r2")

    [warning] = report["warnings"]
    assert "several names" in warning
    (tmp_path / "other.db").unlink()
    project.revision("r3", "r2")
    assert assert_ready(run(project, "run", "--json"), "r3")["warnings"] == []


def test_the_proof_of_create_is_every_table(tmp_path: Path, run: Run) -> None:
    """A table of the metadata that is not there afterwards fails the run, which names it."""
    project = existing(
        tmp_path,
        models="""
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("artists", metadata, sa.Column("id", sa.Integer, primary_key=True))
lost = sa.Table("lost", metadata, sa.Column("id", sa.Integer, primary_key=True))


@sa.event.listens_for(lost, "after_create")
def drop(table, connection, **options):
    connection.exec_driver_sql("DROP TABLE lost")
""",
    )
    project.chain(1)

    ended = run(project, "run", "--bootstrap", "create", "--json")

    assert_failed(ended, "VerificationFailed", "lost is lacking")
