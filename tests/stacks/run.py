"""Run the projects of this directory, and public ones, in virtual environments of their own.

    python tests/stacks/run.py [NAME ...] [-NAME ...]

Every project is installed with the newest releases that its `requirements.txt` allows, copied
to a temporary directory, and started in each of its ways, twice: on no database, then on the
one that the first start left. Each start must serve the row that the migration made; over all
processes that it consists of, one migrated at the first start and none at the second. What is
asked of the public ones stands in `public.py`.

Needs nothing but the standard library and a package index.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from public import PROJECTS, check_project

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENTS = ROOT / ".venv-stacks"
DEADLINE_SECONDS = 90.0

UVICORN = ("uvicorn", "app:app", "--port", "{port}", "--workers", "4")
GUNICORN = ("gunicorn", "app:app", "--bind", "127.0.0.1:{port}", "--workers", "4")
HYPERCORN = ("hypercorn", "app:app", "--bind", "127.0.0.1:{port}", "--workers", "2")
WORKER = ("--worker-class", "uvicorn_worker.UvicornWorker")
STACKS = {
    "plain_alembic": (),
    "fastapi_sqlalchemy": (UVICORN,),
    "sqlmodel": (UVICORN,),
    "ormar": (UVICORN,),
    "ormar_databases": (UVICORN,),
    "litestar": (UVICORN,),
    "starlette": (UVICORN,),
    "gunicorn": ((*GUNICORN, *WORKER), (*GUNICORN, *WORKER, "--preload")),
    "container": (("./entrypoint.sh",),),
    "gate": (
        UVICORN,
        (*UVICORN[:-2], "--reload"),
        (*UVICORN[:-2], "--lifespan", "off"),
        (*GUNICORN, *WORKER),
        ("gunicorn", "--config", str(ROOT / "deploy" / "gunicorn.conf.py"), "app:app"),
        (*HYPERCORN, "--worker-class", "asyncio"),
        (*HYPERCORN, "--worker-class", "trio"),
        ("granian", "--interface", "asgi", "--port", "{port}", "--workers", "2", "app:app"),
        *(
            ("uvicorn", f"{name}_app:app", *UVICORN[2:])
            for name in ("fastapi", "litestar", "quart", "django")
        ),
    ),
}
"""The ways in which each project is started as a server."""


def main(names: list[str]) -> int:
    """Run the projects that are named, or all but those with a dash; returns the exit code."""
    left_out = {name[1:] for name in names if name.startswith("-")}
    named = [name for name in names if not name.startswith("-")]
    names = [name for name in named or [*STACKS, *PROJECTS] if name not in left_out]
    passed = [attempted(name, check_stack) for name in names if name not in PROJECTS]
    public = [name for name in names if name in PROJECTS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        environments = {PROJECTS[name].environment for name in public}
        installs = {each: pool.submit(install_public, each) for each in sorted(environments)}
        wait(installs.values())

        def check(name: str) -> None:
            binaries = installs[PROJECTS[name].environment].result()
            check_project(name, variables(binaries, 0))

        passed += pool.map(lambda name: attempted(name, check), public)
    say(f"{passed.count(True)} passed, {passed.count(False)} failed")
    return not all(passed)


def attempted(name: str, check: Callable[[str], None]) -> bool:
    """Whether a project passes, said as soon as it is known."""
    began = time.monotonic()
    try:
        check(name)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        say(f"{name}: FAILED: {error}")
        return False
    say(f"{name}: passed in {time.monotonic() - began:.0f} s")
    return True


def check_stack(name: str) -> None:
    """Install a project of this directory, and run it in all its ways."""
    binaries = install(name, "-r", str(HERE / name / "requirements.txt"))
    for way in STACKS[name]:
        check_server(name, binaries, way)
    if not STACKS[name]:
        check_command(name, binaries)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - what this program is for


def install_public(environment: str) -> Path:
    """Install the public projects that share an environment."""
    projects = [project for project in PROJECTS.values() if project.environment == environment]
    # Most of what they bring is never imported: it is compiled where it is.
    return install(environment, "--no-compile", *{r for p in projects for r in p.requirements})


def install(environment: str, *requirements: str) -> Path:
    """Install requirements and this library; returns the directory of commands."""
    binaries = ENVIRONMENTS / environment / "bin"
    if not (binaries / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", binaries.parent], check=True)
    pip = [binaries / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--upgrade", "--editable", ROOT, *requirements], check=True)
    return binaries


def check_server(name: str, binaries: Path, way: tuple[str, ...]) -> None:
    """Start a project in one way, on no database and then on the one that is there."""
    with copied(name) as directory:
        for leaders in (1, 0):
            port = free_port()
            command = [part.format(port=port) for part in way]
            with started(command, directory, binaries, port) as process:
                assert answer(port, process) == {"notes": ["first"], "versions": ["0001"]}
                runs = wait_for_runs(directory)
                log = (directory / "log").read_text()
            assert [event["led"] for event in runs].count(True) == leaders, runs
            assert "0001" in log, f"the start said nothing of what it did: {log}"
            journal(directory).unlink()


def check_command(name: str, binaries: Path) -> None:
    """Run the command and a program that uses the database."""
    with copied(name) as directory:
        environment = variables(binaries, 0)
        for led in (True, False):
            ran = subprocess.run(
                ["orchestrator", "run", "--json"],
                cwd=directory,
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
            )
            assert json.loads(ran.stdout)["led"] is led
        printed = subprocess.run(
            ["python", "app.py"], cwd=directory, env=environment, stdout=subprocess.PIPE, check=True
        )
        assert printed.stdout == b"['first']\n", printed.stdout


@contextmanager
def copied(name: str) -> Iterator[Path]:
    """A copy of a project, so that nothing is left in the checkout."""
    with tempfile.TemporaryDirectory() as directory:
        ignored = shutil.ignore_patterns("__pycache__", "*.db", ".*.orchestrator")
        yield Path(shutil.copytree(HERE / name, Path(directory) / name, ignore=ignored))


@contextmanager
def started(
    command: list[str], directory: Path, binaries: Path, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in a process group of its own, which is ended with it."""
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=variables(binaries, port),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        say(f"{' '.join(command)}:\n{log.read_text()}")
        raise
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise AssertionError(f"{command[0]} had not ended 30 s after SIGTERM") from None


def variables(binaries: Path, port: int) -> dict[str, str]:
    """The variables of a project's processes: none of the orchestrator's own settings."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ORCHESTRATOR_") and name not in ("DATABASE_URL", "PYTHONPATH")
    }
    return {
        **kept,
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PORT": str(port),
        "HOST": "127.0.0.1",
    }


def answer(port: int, process: subprocess.Popen[bytes]) -> object:
    """What the server answers, as soon as it does."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        failure: Exception
        try:
            with urlopen(f"http://127.0.0.1:{port}/notes", timeout=5) as response:
                return json.load(response)
        except (URLError, ConnectionError, TimeoutError) as error:
            failure = error
        assert process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, f"no answer: {failure}"
        time.sleep(0.1)


def wait_for_runs(directory: Path) -> list[dict[str, object]]:
    """The ends of all runs that have begun, when all have ended."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        lines = [json.loads(line) for line in journal(directory).open()]
        ended = [line for line in lines if line["event"] == "database_ready"]
        begun = [line for line in lines if line["event"] == "run_started"]
        if len(ended) == len(begun):
            return ended
        assert time.monotonic() < deadline, f"{len(begun)} runs began, {len(ended)} ended"
        time.sleep(0.1)


def journal(directory: Path) -> Path:
    """The journal beside a project's database."""
    return directory / ".app.db.orchestrator" / "journal.jsonl"


def free_port() -> int:
    """A port of this host that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
