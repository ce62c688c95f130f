"""`env.py` that does what it should not: loops, prints, exits, errors, hooks, arguments."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from tests.compat.projects import (
    COMMAND,
    ENV_PY,
    Existing,
    assert_failed,
    assert_ready,
    existing,
)
from tests.projects import Finished

Run = Callable[..., Finished]

LOOP = """
import {library}
from alembic import context
from sqlalchemy import create_engine
from models import metadata


def migrate():
    with create_engine("sqlite:///app.db").connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


async def main():
    {group}


{start}
"""

LOOPS = {
    "asyncio": LOOP.format(library="asyncio", group="migrate()", start="asyncio.run(main())"),
    "new_loop": LOOP.format(
        library="asyncio",
        group="migrate()",
        start="loop = asyncio.new_event_loop()\nloop.run_until_complete(main())\nloop.close()",
    ),
    "task_group": LOOP.format(
        library="anyio, sys",
        group="""
    async def child():
        migrate()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
    """,
        start="anyio.run(main)",
    ),
    "trio": LOOP.format(library="trio", group="migrate()", start="trio.run(main)"),
    # To another thread, and from there into a loop of its own.
    "executor": LOOP.format(
        library="concurrent.futures",
        group="migrate()",
        start="with concurrent.futures.ThreadPoolExecutor(1) as pool:\n"
        "    pool.submit(migrate).result()",
    ),
    "loop_in_executor": LOOP.format(
        library="asyncio, concurrent.futures",
        group="migrate()",
        start="with concurrent.futures.ThreadPoolExecutor(1) as pool:\n"
        "    pool.submit(asyncio.run, main()).result()",
    ),
    "back_into_a_loop": LOOP.format(
        library="asyncio, threading",
        group="migrate()",
        start="loop = asyncio.new_event_loop()\n"
        "thread = threading.Thread(target=loop.run_forever)\n"
        "thread.start()\n"
        "try:\n"
        "    asyncio.run_coroutine_threadsafe(main(), loop).result()\n"
        "finally:\n"
        "    loop.call_soon_threadsafe(loop.stop)\n"
        "    thread.join()\n"
        "    loop.close()",
    ),
}


class TestEventLoop:
    """`env.py` runs an event loop of its own, or carries its work to another thread."""

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_inside_an_application_that_runs_one(self, tmp_path: Path, backend: str) -> None:
        """A run, an inspection and a failure of a revision come through it, however it is run."""
        for loop, env in LOOPS.items():
            project = existing(tmp_path / loop, env=env)
            project.revision("r1", None)
            project.revision("r2", "r1", "raise ValueError('no')")

        ended = Existing(tmp_path).python(
            f"""
            import os, sys
            import anyio
            from orchestrator import Orchestrator, TaskFailed

            async def main():
                orchestrator = Orchestrator.from_config()
                try:
                    await orchestrator.run()
                except TaskFailed as error:
                    assert error.revision == "r2", error.revision
                found = await orchestrator.inspect()
                assert found.state == "absent", found
                assert [one.revision for one in found.pending] == ["r1", "r2"], found
                await orchestrator.upgrade("r1")
                assert (await orchestrator.inspect()).versions == ("r1",)

            for loop in sys.argv[1:]:
                os.chdir(loop)
                anyio.run(main, backend={backend!r})
                os.chdir("..")
            """,
            *LOOPS,
        )

        assert ended.code == 0, ended.stderr


PRINTS = """
import os, subprocess, sys
print("by print")
sys.stdout.write("by write\\n")
sys.__stdout__.write("by the first stdout\\n")
os.write(1, b"by descriptor\\n")
subprocess.run(["echo", "by a child"], check=True)
context.config.print_stdout("by alembic")
"""
SAID = ("by print", "by write", "by the first stdout", "by descriptor", "by a child", "by alembic")


def printing(path: Path) -> Existing:
    project = existing(path, env=ENV_PY.replace("from sqlalchemy", f"{PRINTS}\nfrom sqlalchemy"))
    project.revision("r1", None, "print('by a revision')")
    return project


class TestPrints:
    """What `env.py` and revisions print, and the programs that they start."""

    @pytest.mark.parametrize("command", [("run", "--json"), ("plan", "--sql")])
    def test_goes_to_stderr(self, tmp_path: Path, run: Run, command: tuple[str, ...]) -> None:
        """Standard output holds the result and nothing else; standard error has the rest."""
        project = printing(tmp_path)

        ended = project.run(*command)

        assert ended.code == 0, ended.stderr
        assert "by " not in ended.stdout
        for said in SAID:
            assert said in ended.stderr
        if "--json" in command:
            assert_ready(ended, "r1")
            assert "by a revision" in ended.stderr
            status = run(project, "status", "--json")
            assert status.json["state"] == "current"
            assert "by descriptor" in status.stderr

    def test_needs_no_stdout(self, tmp_path: Path) -> None:
        """Started without a standard output, a run works all the same."""
        project = existing(tmp_path)
        project.revision("r1", None, "print('nobody hears it')")

        process = subprocess.run(
            ["/bin/sh", "-c", '"$0" run --quiet >&-', str(COMMAND)],
            cwd=tmp_path,
            env=project.environment(),
            capture_output=True,
            text=True,
            check=False,
        )

        assert process.returncode == 0, process.stderr
        assert project.versions() == ["r1"]


class TestEnds:
    """`env.py` that ends the process, or fails."""

    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("import sys; sys.exit(3)", ("sys.exit(3)", "env.py, line ", "Nothing was changed")),
            ("raise SystemExit('no luck')", ("sys.exit('no luck')",)),
            ("import no_such_module", ("ModuleNotFoundError", "no_such_module", "env.py, line ")),
            ("def broken(:", ("SyntaxError", "env.py", "line ")),
            ("raise KeyError('DATABASE')", ("KeyError: 'DATABASE'", "env.py, line ")),
            ("context.config.attributes['connection']", ("KeyError: 'connection'",)),
        ],
    )
    def test_before_it_migrates(
        self, tmp_path: Path, run: Run, code: str, words: tuple[str, ...]
    ) -> None:
        """The error names what was raised, the file and the line; nothing is made."""
        project = existing(
            tmp_path, env=ENV_PY.replace("from sqlalchemy", f"{code}\nfrom sqlalchemy")
        )
        project.revision("r1", None)

        assert_failed(run(project, "run", "--json"), "ConfigurationError", *words)
        assert project.tables() == []

    def test_in_a_process_of_its_own(self, tmp_path: Path) -> None:
        """The console script ends with the code of a wrong configuration, not with env.py's."""
        project = existing(tmp_path, env=f"import sys\nsys.exit(0)\n{ENV_PY}")
        project.revision("r1", None)

        assert_failed(project.run("run", "--json"), "ConfigurationError", "sys.exit(0)")

    def test_when_it_has_migrated(self, tmp_path: Path, run: Run) -> None:
        """`sys.exit()` as the last line is no failure; any other error is: what is kept is told."""
        project = existing(tmp_path, env=f"{ENV_PY}\nimport sys\nsys.exit()\n")
        project.revision("r1", None)
        assert_ready(run(project, "run", "--json"), "r1")

        project.write("migrations/env.py", f"{ENV_PY}\nraise ValueError('too late')\n")
        project.revision("r2", "r1")
        ended = run(project, "run", "--json")
        assert_failed(ended, "ConfigurationError", "too late", "had ended before, and is kept")
        assert [one["revision"] for one in ended.json["applied"]] == ["r2"]
        assert project.versions() == ["r2"]

    def test_without_having_migrated(self, tmp_path: Path, run: Run) -> None:
        """An `env.py` that never comes to `run_migrations()` has not succeeded."""
        project = existing(tmp_path, env=ENV_PY.replace("context.run_migrations()", "pass"))
        project.revision("r1", None)

        assert_failed(run(project, "run", "--json"), "ConfigurationError", "run_migrations()")

    def test_keeping_errors_to_itself(self, tmp_path: Path, run: Run) -> None:
        """A revision whose error `env.py` swallows has failed all the same."""
        swallowing = "try:\n            context.run_migrations()\n        except: pass"
        project = existing(tmp_path, env=ENV_PY.replace("context.run_migrations()", swallowing))
        project.revision("r1", None, "raise ValueError('no')")

        ended = run(project, "run", "--json")

        assert ended.code == 1
        assert "ValueError: no" in ended.json["error"]["message"]
        status = run(project, "status", "--json")
        assert (status.code, status.json["state"]) == (0, "empty"), status.stderr

    def test_on_a_statement_of_its_own(self, tmp_path: Path, run: Run) -> None:
        """A statement of `env.py` that fails is not told as a database that cannot be reached."""
        statement = "connection.exec_driver_sql('SET search_path TO x')\n    context.configure"
        project = existing(tmp_path, env=ENV_PY.replace("context.configure", statement))
        project.revision("r1", None)

        ended = run(project, "run", "--json")

        assert_failed(
            ended, "ConfigurationError", "syntax error", "SET search_path", "env.py, line"
        )


APPLIED = """
def applied(*, ctx, step, heads, run_args):
    {body}


def directives(context, revision, directives):
    raise AssertionError("nothing is generated")


"""


def hooked(path: Path, body: str) -> Existing:
    text = ENV_PY.replace("connectable =", APPLIED.format(body=body) + "connectable =")
    options = ", on_version_apply=applied, process_revision_directives=directives"
    project = existing(path, env=text.replace("=metadata)", f"=metadata{options})"))
    project.chain(2)
    return project


class TestHooks:
    """`on_version_apply` and `process_revision_directives`."""

    def test_are_called(self, tmp_path: Path) -> None:
        """Once for each revision and in its transaction, as Alembic does it; none is generated."""
        body = 'ctx.connection.exec_driver_sql(f"CREATE TABLE {step.up_revision_id}_seen (id INT)")'
        project = hooked(tmp_path, body)

        assert_ready(project.run("run", "--json"), "r2")

        assert project.tables() == ["alembic_version", "r1_seen", "r2_seen", "t_r1", "t_r2"]

    def test_fail_the_run(self, tmp_path: Path, run: Run) -> None:
        """A hook that raises takes back everything, and is named."""
        project = hooked(tmp_path, 'assert step.up_revision_id != "r2", "not that one"')

        ended = run(project, "run", "--json")

        assert ended.json["outcome"] == "failed"
        assert "not that one" in ended.json["error"]["message"]
        assert "env.py" in ended.json["error"]["message"]
        assert project.tables() == []


ASKS = """
arguments = context.get_x_argument(as_dictionary=True)
table = f"{arguments['tenant']}_{context.get_tag_argument()}"
"""


class TestArguments:
    """What `alembic -x key=value upgrade --tag TAG` gives to `env.py`."""

    def test_are_passed_on(self, tmp_path: Path, run: Run) -> None:
        """By options, for every command; another argument is another target, also when warm."""
        env = ENV_PY.replace("from sqlalchemy", f"{ASKS}\nfrom sqlalchemy")
        project = existing(
            tmp_path, env=env.replace("=metadata)", "=metadata, version_table=table)")
        )
        project.revision("r1", None)
        given = ("--x-arg", "tenant=one", "--x-arg", "flag", "--tag", "blue", "--json")

        assert_ready(project.run("run", *given), "r1")
        assert_ready(run(project, "run", *given), "r1", led=False)
        assert project.versions("one_blue") == ["r1"]
        assert run(project, "status", *given).json["state"] == "current"
        other = run(project, "status", "--x-arg", "tenant=two", "--tag", "blue", "--json")
        assert other.json["state"] == "unversioned"

    def test_are_settings(self, tmp_path: Path, run: Run) -> None:
        """By the settings `x_args` and `tag`, for a lifespan; without them `env.py` tells."""
        env = ENV_PY.replace("from sqlalchemy", f"{ASKS}\nfrom sqlalchemy")
        project = existing(tmp_path, env=env)
        project.revision("r1", None)
        assert_failed(run(project, "run", "--json"), "ConfigurationError", "KeyError: 'tenant'")

        project.write("pyproject.toml", '[tool.orchestrator]\nx_args = ["tenant=one"]\ntag = "x"')
        assert_ready(run(project, "run", "--json"), "r1")

    def test_look_like_those_of_the_command(self, tmp_path: Path, run: Run) -> None:
        """`config.cmd_opts` has what environments read of it, and no `autogenerate`."""
        asks = """
        options = context.config.cmd_opts
        assert not getattr(options, "autogenerate", False)
        assert options.cmd[0].__name__ == "upgrade"
        assert options.revision == "heads"
        assert (options.sql, options.x, options.tag, options.name) == (False, None, None, "alembic")
        """
        project = existing(
            tmp_path, env=ENV_PY.replace("from sqlalchemy", f"{dedent(asks)}\nfrom sqlalchemy")
        )
        project.revision("r1", None)

        assert_ready(run(project, "run", "--json"), "r1")


def test_what_env_py_undoes_afterwards_is_told_as_what_it_is(tmp_path: Path) -> None:
    """A version row that is deleted after the commit was not rolled back for certain."""
    after = """
with connectable.begin() as connection:
    connection.exec_driver_sql("DELETE FROM alembic_version")
"""
    project = existing(tmp_path, env=ENV_PY + after)
    project.revision("r1", None)

    message = assert_failed(
        project.run("run", "--json"), "VerificationFailed", "not what the run wrote", "afterwards"
    )

    assert "should be at r1, and is at base" in message


def test_the_same_relative_url_is_told_by_its_paths(tmp_path: Path) -> None:
    """`env.py` changes the working directory: two files have one URL."""
    (tmp_path / "elsewhere").mkdir()
    project = existing(tmp_path, env=f"import os\nos.chdir('elsewhere')\n{ENV_PY}")
    project.revision("r1", None)

    assert_failed(
        project.run("run", "--json", "--database-url", "sqlite:///app.db"),
        "ConfigurationError",
        f"{tmp_path / 'elsewhere' / 'app.db'}",
        f"database is sqlite:{tmp_path / 'app.db'}",
    )


def test_a_version_row_that_is_gone_names_the_revision(tmp_path: Path) -> None:
    """Alembic raises at the row of the revision that deleted it, outside of the revision."""
    project = existing(tmp_path)
    project.revision("r1", None)
    file = project.revision("r2", "r1", "op.execute('DELETE FROM alembic_version')")

    assert_failed(
        project.run("run", "--json"), "TaskFailed", "at revision r2", str(file), "as it was before"
    )
    assert not project.tables()


def test_work_that_env_py_does_not_wait_for_is_told(tmp_path: Path) -> None:
    """It had not ended when `env.py` did: nothing is said of a rollback."""
    env = """
import threading
from alembic import context
from sqlalchemy import create_engine, pool

waits, ran = threading.Event(), threading.Event()

def migrate():
    with create_engine("sqlite:///app.db", poolclass=pool.NullPool).connect() as connection:
        context.configure(connection=connection, on_version_apply=lambda **_: wait())
        with context.begin_transaction():
            context.run_migrations()

def wait():
    ran.set()
    waits.wait(5)

threading.Thread(target=migrate, daemon=True).start()
ran.wait(30)
"""
    project = existing(tmp_path, env=env)
    project.revision("r1", None)

    message = assert_failed(
        project.run("run", "--json"), "VerificationFailed", "had not ended when env.py did", "wait"
    )

    assert "rolled" not in message
