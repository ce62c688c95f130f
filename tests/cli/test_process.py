"""The process of the command line: how it begins, and that it ends when its work has ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from orchestrator import __main__ as entry
from tests.projects import ENV_PY, Finished, Project, finish
from tests.zygote import DEADLINE_SECONDS, Zygote

SCRIPT = [str(Path(sys.executable).with_name("orchestrator"))]
MODULE = [sys.executable, "-m", "orchestrator"]

GREENED = """
import importlib.util
import threading

spec = importlib.util.spec_from_file_location("green_threading", threading.__file__)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
"""
"""What eventlet does to the thread that imports it first: a copy of `threading` is made in it."""

ENDS = """
import atexit
import pathlib

atexit.register(pathlib.Path("exit-handler").touch)
log = open("open-file", "w")
log.write("written")
"""

INTERRUPTED_AT = """
import os
import signal
import sys

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ.get("INTERRUPT_AT"):
            exec("os.kill(os.getpid(), signal.SIGINT)")

sys.meta_path.insert(0, Interrupting())
"""
"""A `sitecustomize` that interrupts the process when it imports a certain module.

Inside of `exec`, as the code of a dataclass is: Python then remembers it until its end.
"""


def start(
    project: Project,
    *arguments: str,
    by: list[str] = MODULE,
    prepare: Callable[[], None] | None = None,
    **variables: str,
) -> subprocess.Popen[str]:
    """Start a process in the project, which is the command line by default."""
    return subprocess.Popen(
        [*by, *arguments],
        cwd=project.path,
        env=project.environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,  # noqa: PLW1509 - it only calls the operating system
    )


def ended(process: subprocess.Popen[str]) -> Finished:
    """How the process ends, which has to be soon."""
    return finish(process, seconds=DEADLINE_SECONDS / 2)


def with_patience(seconds: float) -> list[str]:
    """The command line, with another patience for the threads that are left."""
    return [
        sys.executable,
        "-c",
        f"import orchestrator.__main__ as m; m.PATIENCE_SECONDS = {seconds}; m.console()",
    ]


def env_py(project: Project, *before: str) -> None:
    """Let `env.py` do this first."""
    project.write("migrations/env.py", "\n".join((*before, ENV_PY)))


class TestEnd:
    """The process ends when its work has ended, and with the work's exit code."""

    @pytest.mark.parametrize(
        ("command", "code", "by"),
        [("run", 0, SCRIPT), ("status --check", 6, MODULE), ("plan", 0, MODULE)],
    )
    def test_whatever_was_imported(
        self, project: Project, command: str, code: int, by: list[str]
    ) -> None:
        """As `env.py` imported eventlet: exit handlers are called, open files are written."""
        project.write("eventlet_like.py", GREENED)
        env_py(project, "import eventlet_like", ENDS)
        project.chain(2)
        if command != "run":  # no rehearsal without a database
            project.database.touch()

        done = ended(start(project, *command.split(), by=by))

        assert done.code == code, done.stderr
        assert "r2" in done.stdout
        assert (project.path / "exit-handler").exists()
        assert (project.path / "open-file").read_text() == "written"
        assert "Traceback" not in done.stderr
        assert "left behind" not in done.stderr

    def test_a_failure_is_told_by_the_exit_code(self, project: Project) -> None:
        """Where the process has to be ended by force, too."""
        project.write("eventlet_like.py", GREENED)
        env_py(project, "import eventlet_like")
        project.revision("r1", None, "raise ValueError('boom')")

        done = ended(start(project, "run", "--json"))

        assert (done.code, done.json["outcome"]) == (1, "failed")

    def test_threads_that_end_are_waited_for(self, project: Project) -> None:
        """What they do is done; those of an executor, which wait for work, are told to end."""
        env_py(
            project,
            """
import concurrent.futures, pathlib, threading, time

executor = concurrent.futures.ThreadPoolExecutor(2)
executor.submit(print, "in the executor").result()
threading.Thread(target=lambda: (time.sleep(0.5), pathlib.Path("sent").touch())).start()
""",
        )
        project.chain(1)

        done = ended(start(project, "run", "--json"))

        assert (done.code, done.json["outcome"]) == (0, "ready")
        assert (project.path / "sent").exists()
        assert "left behind" not in done.stderr

    def test_a_thread_that_does_not_end_is_named_and_left(self, project: Project) -> None:
        """When the patience is over; exit handlers are called all the same."""
        env_py(
            project,
            ENDS,
            "import threading",
            "threading.Thread(target=threading.Event().wait, name='uploader').start()",
        )
        project.chain(1)

        done = ended(start(project, "run", "--json", by=with_patience(0.3)))

        assert (done.code, done.json["outcome"]) == (0, "ready")
        assert done.stderr.splitlines()[-1].startswith("orchestrator: the thread 'uploader'")
        assert (project.path / "exit-handler").exists()
        assert entry.PATIENCE_SECONDS == 5.0

    def test_whoever_interrupts_the_waiting_ends_it(self, project: Project) -> None:
        """At once, in silence, and with the exit code of the work, which has ended."""
        env_py(
            project,
            """
import pathlib, threading, time

def never_ends():
    while threading.main_thread().is_alive():  # which it is until others are waited for
        time.sleep(0.01)
    pathlib.Path("waiting").touch()
    threading.Event().wait()

threading.Thread(target=never_ends).start()
""",
        )
        project.chain(1)
        running = start(project, "run", "--json", by=with_patience(DEADLINE_SECONDS))
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (project.path / "waiting").exists() and time.monotonic() < deadline:
            time.sleep(0.01)

        running.send_signal(signal.SIGINT)
        done = ended(running)

        assert (done.code, done.json["outcome"]) == (0, "ready")
        assert "Traceback" not in done.stderr
        assert "Stopped" not in done.stderr

    def test_main_ends_no_process_of_somebody_else(self, project: Project) -> None:
        """It raises `SystemExit`, and leaves signals and streams as they were."""
        project.write("eventlet_like.py", GREENED)
        env_py(project, "import eventlet_like")
        project.chain(1)
        code = """
import os, signal, sys
from orchestrator.cli import main

def process():
    signals = [signal.getsignal(number) for number in (2, 14, 15)]
    return signals, sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__

before = process()
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
assert process() == before
print("goes on", flush=True)
os._exit(7)
"""

        done = ended(start(project, "run", by=[sys.executable, "-c", code]))

        assert done.code == 7, done.stderr
        assert done.stdout.splitlines()[-1] == "goes on"


class TestInterruptedBeginning:
    """An interrupt before the command has begun."""

    @pytest.mark.parametrize(
        ("module", "by"),
        [
            ("orchestrator.cli", SCRIPT),
            ("orchestrator.cli", MODULE),
            ("orchestrator.settings", MODULE),
            ("typer.main", SCRIPT),
            ("orchestrator.cli.streams", MODULE),
            ("anyio._backends._asyncio", MODULE),
            ("orchestrator.run.inspection", MODULE),
        ],
    )
    def test_wherever_it_comes(self, project: Project, module: str, by: list[str]) -> None:
        """In the middle of an import, the command's late ones included: said in one line, 130."""
        project.write("sitecustomize.py", INTERRUPTED_AT)
        project.chain(1)

        done = ended(start(project, "status", by=by, INTERRUPT_AT=module))

        assert (done.code, done.stdout) == (130, "")
        assert done.stderr == "Stopped before anything was done.\n"

    def test_one_that_is_ignored(self, project: Project) -> None:
        """As in the background of a shell: the command does its work."""
        project.write("sitecustomize.py", INTERRUPTED_AT)
        project.chain(1)

        def ignoring() -> None:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

        done = ended(start(project, "run", prepare=ignoring, INTERRUPT_AT="typer.main"))

        assert done.code == 0, done.stderr
        assert "ready at r1" in done.stdout


@pytest.mark.parametrize("at", ["perform.stdout", "anyio.run"])
def test_an_interrupt_when_the_work_has_ended(project: Project, zygote: Zygote, at: str) -> None:
    """It is too late: the work's exit code, and nobody says that nothing was done."""
    project.chain(1)
    prelude = project.write(
        "prelude.py",
        f"""
        import os, signal
        import anyio
        from orchestrator.cli import perform

        def and_interrupt(*arguments):
            result = called(*arguments)
            os.kill(os.getpid(), signal.SIGINT)
            return result

        called, {at} = {at}, and_interrupt
        """,
    )

    [process] = zygote.start(project, "run", prelude=prelude)
    done = process.finish()

    assert (done.code, project.database.exists()) == (0, True)
    assert "Stopped" not in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installed_script_is_the_console() -> None:
    """It is not `main`, which any process may call."""
    [script] = entry_points(group="console_scripts", name="orchestrator")

    assert script.load() is entry.console


def test_closed_descriptors_are_no_files_of_ours(project: Project) -> None:
    """Else what a program of a revision prints could get into the journal, or the database."""
    project.revision(
        "r1",
        None,
        """
        import json, os, pathlib
        files = [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]
        pathlib.Path("files").write_text(json.dumps(files))
        """,
    )

    def close() -> None:
        for number in range(3):
            os.close(number)

    done = ended(start(project, "run", prepare=close))

    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert json.loads((project.path / "files").read_text()) == ["/dev/null"] * 3
