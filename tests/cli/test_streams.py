"""Printing never decides what a command does, nor its exit code: words are lost, and no more."""

from __future__ import annotations

import io
import os
import pty
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.cli.streams import stdout_lost, words_lost_only
from tests.projects import Finished, Project, finish
from tests.zygote import DEADLINE_SECONDS, Zygote

FULL_FILE = "io.TextIOWrapper(io.BufferedWriter(io.FileIO('/dev/full', 'w')))"

CLOSED = "import os, sys; os.close({0}); sys.{1} = None"
FULL = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), {0})"
NO_READER = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, {0})"
ASCII = "import sys; sys.{1}.reconfigure(encoding='ascii', errors='strict')"
BLOCKED = (
    "import os; r, w = os.pipe(); os.set_blocking(w, False); os.write(w, bytes(1 << 20)); "
    "os.dup2(w, {0})"
)
BAD = {
    "closed": CLOSED,
    "full": FULL,
    "without a reader": NO_READER,
    "that would block": BLOCKED,
    "ascii": ASCII,
}
BOTH = {1: "stdout", 2: "stderr"}
STREAMS = {
    **{
        f"{name} {how}": code.format(number, name)
        for how, code in BAD.items()
        for number, name in BOTH.items()
    },
    "both without a reader": f"{NO_READER.format(1)}; os.dup2(1, 2)",
    "both closed": f"{CLOSED.format(1, 'stdout')}; {CLOSED.format(2, 'stderr')}",
}
"""What a process does to its streams before it is the command line."""

COMMANDS = {
    "status": 0,
    "status --check --json": 6,
    "plan": 0,
    "plan --sql": 0,
    "upgrade r1 --json": 0,
    "run": 0,
    "run --json": 0,
    "check": 6,
    "downgrade base --log console": 0,
    "create --no-stamp": 0,
    "stamp heads --log json": 0,
    "upgrade nonsense": 2,
    "upgrade nonsense --json --verbose": 2,
    "wait --lock-timeout 9": 0,
    "logs": 0,
    "logs starts": 0,
    "logs timeline": 0,
    "logs revisions": 0,
    "logs runs --json": 0,
    "run --help": 0,
    "statsu": 2,
    "init --metadata models:metadata elsewhere": 0,
}
"""Run one after the other in one project; with the exit codes."""

FOR_ALL = ("stdout full", "stderr closed", "both without a reader")
"""Streams that each of the commands meets; the others meet one command for each way to print."""

WAYS_TO_PRINT = (
    "status --check --json",
    "plan --sql",
    "run",
    "stamp heads --log json",
    "downgrade base --log console",
    "upgrade nonsense",
    "logs timeline",
    "run --help",
)


@pytest.fixture
def german(project: Project) -> Project:
    """A project whose revisions print, and have descriptions that are not ASCII."""
    project.write(
        "models.py",
        """
        import sqlalchemy as sa

        metadata = sa.MetaData()
        sa.Table("t_r1", metadata, sa.Column("id", sa.Integer, primary_key=True))
        """,
    )
    for name, parent in (("r1", None), ("r2", "r1")):
        file = project.revision(
            name,
            parent,
            f"""
            import sys
            print("größer")
            print("größer", file=sys.stderr, flush=True)
            op.create_table("t_{name}", sa.Column("id", sa.Integer, primary_key=True))
            """,
        )
        file.write_text(file.read_text().replace("revision r", "größer →", 1))
    return project


def run(project: Project, zygote: Zygote, command: str, prepare: str, **more: str) -> Finished:
    """Run a command in a process that first does this to its streams."""
    prelude = project.write("prelude.py", prepare)
    [process] = zygote.start(project, *command.split(), prelude=prelude, **more)
    return process.finish()


@pytest.mark.parametrize("name", STREAMS)
def test_every_command_does_its_work(german: Project, zygote: Zygote, name: str) -> None:
    """With the exit code that it has for whoever reads it all; and never a traceback."""
    expected = COMMANDS if name in FOR_ALL else {one: COMMANDS[one] for one in WAYS_TO_PRINT}
    codes = {}
    for command in expected:
        done = run(german, zygote, command, STREAMS[name])
        codes[command] = done.code
        if "--json" in command and done.stdout:
            assert done.json
        if "--verbose" not in command:
            assert "Traceback" not in done.stderr + done.stdout

    assert codes == expected


@pytest.mark.parametrize("stream", BOTH, ids=BOTH.values())
@pytest.mark.parametrize("how", [CLOSED, FULL, NO_READER], ids=["closed", "full", "no reader"])
def test_a_failure_keeps_its_exit_code(
    project: Project, zygote: Zygote, how: str, stream: int
) -> None:
    """A revision that fails is 1, with words and with JSON; stdout holds the JSON and no more."""
    project.revision("r1", None, "print('before'); raise ValueError('boom')")
    prepare = how.format(stream, BOTH[stream])

    told = run(project, zygote, "run", prepare)
    as_json = run(project, zygote, "run --json", prepare)

    assert (told.code, as_json.code) == (1, 1)
    assert "Traceback" not in told.stderr + as_json.stderr
    if stream == 2:
        assert as_json.json["error"]["type"] == "TaskFailed"
        assert told.stdout.startswith("failed after")


class TestALostResult:
    """What is said of a result that could not be printed."""

    def test_a_full_device(self, project: Project, zygote: Zygote) -> None:
        """One line on stderr tells that the document is lost, and why."""
        project.chain(1)

        done = run(project, zygote, "run --json", FULL.format(1))

        assert (done.code, project.database.exists()) == (0, True)
        lost = "orchestrator: stdout cannot be written: No space left on device.\n"
        assert done.stderr == lost

    def test_a_reader_that_has_gone(self, project: Project, zygote: Zygote) -> None:
        """It wanted no more, and nothing is said."""
        project.chain(1)

        done = run(project, zygote, "run --json", NO_READER.format(1))

        assert (done.code, done.stderr, project.database.exists()) == (0, "", True)


def test_the_head_of_a_run(project: Project) -> None:
    """`orchestrator run 2>&1 | head -1` migrates, and its exit code is that of the migration."""
    project.chain(3)
    command = f"{sys.executable} -m orchestrator run 2>&1 | head -1; exit ${{PIPESTATUS[0]}}"
    process = subprocess.Popen(
        ["bash", "-c", command],
        cwd=project.path,
        env=project.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    done = finish(process)

    assert (done.code, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    with closing(sqlite3.connect(project.database)) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("r3",)]


def test_what_follows_ends_with_its_reader(project: Project, zygote: Zygote) -> None:
    """`orchestrator logs follow | head` does not go on for nobody."""
    project.chain(1)
    assert project.run("run").code == 0
    prelude = project.write("prelude.py", NO_READER.format(1))

    for command in (["logs", "follow"], ["logs", "follow", "--json"]):
        [process] = zygote.start(project, *command, prelude=prelude)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while process.runs and time.monotonic() < deadline:
            project.run("run")  # something to tell
        done = process.kill()
        assert (done.code, done.stderr) == (0, "")


def test_standard_input_that_is_closed(project: Project, zygote: Zygote) -> None:
    """It is an empty one."""
    done = run(project, zygote, "logs --journal -", CLOSED.format(0, "stdin"))

    assert done.code == 0, done.stderr
    assert done.stderr.startswith("No run in standard input.")


class TestAscii:
    """An encoding that lacks characters."""

    def test_words_are_escaped(self, german: Project, zygote: Zygote) -> None:
        """They can be read all the same."""
        done = run(german, zygote, "plan", ASCII.format(1, "stdout"))

        assert "gr\\xf6\\xdfer" in done.stdout

    def test_sql_is_not(self, project: Project, zygote: Zygote) -> None:
        """It would be other SQL: nothing is printed, and it is said how to get it."""
        project.revision("r1", None, "op.execute(\"INSERT INTO t VALUES ('größer')\")")
        prepare = ASCII.format(1, "stdout")

        refused = run(project, zygote, "plan --sql", prepare)
        as_json = run(project, zygote, "plan --sql --json", prepare)
        printed = run(project, zygote, "plan --sql", "")

        assert (refused.code, refused.stdout) == (2, "")
        assert "'\\xf6'. Set PYTHONIOENCODING=utf-8." in refused.stderr
        assert "größer" in as_json.json["sql"]
        assert (printed.code, "'größer'" in printed.stdout) == (0, True)


@pytest.mark.parametrize(
    "does",
    [
        "sys.stderr.close(); sys.stdout.close()",
        "os.close(2)",
        f"sys.stderr = sys.stdout = {FULL_FILE}",
        "sys.stderr = sys.stdout = None",
    ],
)
def test_what_a_revision_does_to_the_streams(project: Project, zygote: Zygote, does: str) -> None:
    """Closed or replaced, they decide nothing; the result is printed to our own."""
    project.revision("r1", None, f"import io, os, sys; {does}")
    project.revision("r2", "r1")

    done = run(project, zygote, "run", "")

    assert (done.code, done.stdout[:11]) == (0, "ready at r2"), done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_that_goes_away(project: Project, zygote: Zygote) -> None:
    """The live display is lost in mid-work, and the work is done."""
    gate = project.path / "gate"
    project.revision(
        "r1",
        None,
        f"""
        import pathlib
        while not pathlib.Path({str(gate)!r}).exists():
            time.sleep(0.01)
        """,
    )
    project.revision("r2", "r1")
    ours, theirs = pty.openpty()
    terminal = os.ttyname(theirs)
    opened = f"import os; os.dup2(os.open({terminal!r}, os.O_RDWR | os.O_NOCTTY), 2)"
    try:
        prelude = project.write("prelude.py", opened)
        [process] = zygote.start(project, "run", prelude=prelude, TERM="xterm")
        shown = b""
        while b"1 of 2" not in shown:
            shown += os.read(ours, 4096)
    finally:
        os.close(ours)
        os.close(theirs)
    gate.touch()

    done = process.finish()

    assert (done.code, done.stdout[:11]) == (0, "ready at r2"), done.stderr


class TestOfAnApplication:
    """What `main()` does to the streams of a process that is not its own."""

    def test_streams_of_its_own_are_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those that are no file of the operating system's: they get every word as ever."""
        memory = io.StringIO()
        encoded = io.TextIOWrapper(io.BytesIO())
        monkeypatch.setattr(sys, "stdout", memory)
        monkeypatch.setattr(sys, "stderr", encoded)

        with words_lost_only():
            assert (sys.stdout, sys.stderr) == (memory, encoded)
            sys.stdout.write("a result\n")

        assert memory.getvalue() == "a result\n"
        assert stdout_lost() is None

    def test_they_are_put_back(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """With what was printed before and after, in order, and None where there was none."""
        path = tmp_path / "out"
        with path.open("w") as stdout:
            monkeypatch.setattr(sys, "stdout", stdout)
            monkeypatch.setattr(sys, "stderr", None)
            print("before", file=stdout)
            with words_lost_only():
                sys.stdout.write("\udcff\n")
                sys.stderr.write("nowhere")
            assert (sys.stdout, sys.stderr) == (stdout, None)
            print("after", file=stdout)

        assert path.read_text() == "before\n\\udcff\nafter\n"

    def test_one_that_is_closed_leads_nowhere(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """And is still closed afterwards."""
        stdout = (tmp_path / "out").open("w")
        stdout.close()
        monkeypatch.setattr(sys, "stdout", stdout)

        with words_lost_only():
            sys.stdout.write("nowhere")

        assert sys.stdout is stdout


FORKS_BESIDE_A_PRINTER = """
import os, sys, threading, time

from orchestrator.cli.streams import lose_words_only

lose_words_only()
over = threading.Event()


def print_on():
    while not over.is_set():
        sys.stderr.write("x" * 200)


printer = threading.Thread(target=print_on)
printer.start()
try:
    for _ in range(50):
        child = os.fork()
        if child == 0:
            sys.__stderr__.flush()
            os._exit(7)
        deadline = time.monotonic() + 20
        ended, status = 0, 0
        while not ended and time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            time.sleep(0.001)
        if not ended:
            os.kill(child, 9)
            os.waitpid(child, 0)
            sys.exit("a child waits for ever")
        assert os.waitstatus_to_exitcode(status) == 7
finally:
    over.set()
    printer.join()
"""


def test_a_child_that_is_forked_beside_a_printing_thread_can_print() -> None:
    """`env.py` may fork while the display is drawn: no lock of a stream stays held for ever."""
    done = subprocess.run(
        [sys.executable, "-c", FORKS_BESIDE_A_PRINTER],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=DEADLINE_SECONDS,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-200:]
