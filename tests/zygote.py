"""A process that has imported everything and forks the command line on demand.

An interpreter that starts and imports SQLAlchemy and Alembic costs 0.7 s of a processor. Forked,
hundreds of real processes with the command line in each cost little more than their migrations.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from tests.projects import Finished, Project

ROOT = Path(__file__).parents[1]
PLAIN_ALEMBIC = ROOT / "tests" / "plain_alembic.py"
DEADLINE_SECONDS = 60.0
IMPORTED = (
    "alembic.autogenerate.api",
    "alembic.command",
    "alembic.ddl.sqlite",
    "anyio._backends._asyncio",
    "anyio._core._signals",
    "email.parser",  # portalocker's, for its version
    "encodings.idna",
    "psycopg",
    "pydantic.type_adapter",
    "pymysql",
    "rich._emoji_codes",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.dialects.postgresql",
    "sqlalchemy.dialects.sqlite",
    "orchestrator.cli",
    "orchestrator.databases.mysql.database",
    "orchestrator.databases.postgresql.database",
    "orchestrator.environment",
    "orchestrator.host.publication",
    "orchestrator.locks.file",
    "orchestrator.revisions.commands",
    "orchestrator.revisions.connections",
    "orchestrator.revisions.differences",
    "orchestrator.revisions.changes",
    "orchestrator.revisions.env_py",
    "orchestrator.revisions.task_errors",
    "orchestrator.revisions.scripts",
    "orchestrator.run.authoring",
    "orchestrator.run.check",
    "orchestrator.run.inspection",
    "orchestrator.run.leader",
    "orchestrator.run.scratch",
    "orchestrator.run.work",
    "orchestrator.tasks",
)
"""For the children: also what a command imports late, since each of them would import it anew.

None of them may start a thread: the process forks.
"""


@dataclass
class Forked:
    """A process of the command line, started by a `Zygote`."""

    pid: int
    output: Path
    zygote: Zygote
    ended: Finished | None = None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal. It cannot have been reaped before `finish`."""
        os.kill(self.pid, number)

    @property
    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self.ended is None and bool(self.zygote.order({"runs": self.pid}))

    @property
    def stderr(self) -> str:
        """What it has written to standard error so far."""
        return self.output.with_suffix(".err").read_text()

    def finish(self) -> Finished:
        """Wait for its end; it is killed at the deadline."""
        if self.ended is None:
            code = self.zygote.order({"wait": self.pid})
            stdout = self.output.with_suffix(".out").read_text()
            self.ended = Finished(code, stdout, self.stderr)
        return self.ended

    def kill(self) -> Finished:
        """Kill it, where it has not ended yet, and reap it."""
        if self.ended is None:
            self.send(signal.SIGKILL)
        return self.finish()


class Zygote:
    """Starts many processes of the command line at one instant."""

    def __init__(self) -> None:
        self._numbers = count()
        self._outputs = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.zygote"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(
        self,
        project: Project,
        *arguments: str,
        processes: int = 1,
        prelude: Path | None = None,
        **variables: str,
    ) -> list[Forked]:
        """Start the command line in a project; all processes begin at once.

        `prelude` is a script that each of them runs first, to widen a gap or hang in one; where
        it exits, it is run instead.
        """
        directory = Path(self._outputs.name)
        outputs = [directory / f"process{next(self._numbers)}" for _ in range(processes)]
        pids = self.order(
            {
                "start": [str(output) for output in outputs],
                "arguments": arguments,
                "cwd": str(project.path),
                "environment": project.environment(**variables),
                "prelude": str(prelude or ""),
            }
        )
        return [Forked(pid, output, self) for pid, output in zip(pids, outputs, strict=True)]

    def run(self, project: Project, *arguments: str, processes: int) -> list[Finished]:
        """Run the command line in so many processes at once, to their end."""
        started = self.start(project, *arguments, processes=processes)
        return [process.finish() for process in started]

    def alembic(self, project: Project, *arguments: str, **variables: str) -> Finished:
        """Run the plain `alembic` command in a project, to its end."""
        [process] = self.start(project, *arguments, prelude=PLAIN_ALEMBIC, **variables)
        return process.finish()

    def order(self, order: Mapping[str, Any]) -> Any:
        """Have something done."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._outputs.cleanup()


@cache
def shared_zygote() -> Zygote:
    """The zygote of this process, for tests that need real processes, but not fresh ones."""
    zygote = Zygote()
    atexit.register(zygote.close)
    return zygote


def prepare() -> None:
    """Do, once and before the forks, what each child would have to do anew."""
    import typer.main

    for module in IMPORTED:
        importlib.import_module(module)

    from orchestrator.cli import app

    # Typer would make its tree of commands in each child: 20 ms of a processor.
    typer.main.get_command = cache(typer.main.get_command)
    typer.main.get_command(app)
    gc.collect()
    gc.freeze()  # the children's collectors would write to each page of it


def serve() -> None:
    """Do what the lines of standard input order, one after the other."""
    prepare()
    for line in sys.stdin:
        order = json.loads(line)
        if "start" in order:
            answer: Any = _fork_all(order)
        elif "runs" in order:
            how = os.WEXITED | os.WNOHANG | os.WNOWAIT
            answer = os.waitid(os.P_PID, order["runs"], how) is None
        else:
            answer = _wait(order["wait"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _wait(pid: int) -> int:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)


def _fork_all(order: Mapping[str, Any]) -> list[int]:
    """The children's ids; they begin together, when the last one is there."""
    gate, opened = os.pipe()
    children = []
    for output in order["start"]:
        pid = os.fork()
        if pid == 0:
            os.close(opened)
            os.read(gate, 1)  # returns when the last `opened` is closed
            os._exit(_command_line(order, output))
        children.append(pid)
    os.close(gate)
    os.close(opened)
    return children


def _command_line(order: Mapping[str, Any], output: str) -> int:
    from orchestrator.cli import main

    _redirect(0, os.devnull, os.O_RDONLY)
    _redirect(1, f"{output}.out", os.O_WRONLY | os.O_CREAT)
    _redirect(2, f"{output}.err", os.O_WRONLY | os.O_CREAT)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    tempfile.tempdir = None  # where it is hangs on a variable
    sys.path.insert(0, order["cwd"])
    sys.argv = ["orchestrator", *order["arguments"]]
    try:
        if order["prelude"]:
            runpy.run_path(order["prelude"], run_name="__main__")
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:  # noqa: BLE001 - as the interpreter does at its end
        traceback.print_exc()
        return 1
    finally:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    return 0


def _redirect(descriptor: int, path: str, flags: int) -> None:
    file = os.open(path, flags)
    os.dup2(file, descriptor)
    os.close(file)


if __name__ == "__main__":
    serve()
