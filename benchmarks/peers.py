"""Simultaneous starts of this tool and of others, and what became of those that did not lead."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Thread

from benchmarks import projects
from benchmarks.cases import Bench
from benchmarks.harness import Sample, environment, process, table

VENVS = Path(__file__).parent.parent / ".venv-bench"
RECIPE = Path(__file__).with_name("lock_directory.py")
MIGRATIONS = 3
STARTERS = 8
_VERSION_OF = "import importlib.metadata as m; print(m.version({!r}))"


@dataclass(frozen=True)
class Peer:
    """A tool, its project, and its command; `version` is asked of its own environment."""

    name: str
    make: Callable[..., Path]
    command: Sequence[str]
    version: Sequence[str] = ()
    variables: tuple[tuple[str, str], ...] = ()

    @property
    def installed(self) -> bool:
        """Whether its program is there."""
        return shutil.which(self.command[0]) is not None

    def described(self) -> str:
        """Its name, with its version where it has one of its own."""
        if not self.version:
            return self.name
        done = subprocess.run(
            self.version, capture_output=True, text=True, check=True, env=environment()
        )
        return f"{self.name} {done.stdout.split()[-1]}"


PEERS = (
    Peer("orchestrator", projects.alembic_project, (sys.executable, "-m", "orchestrator", "run")),
    Peer(
        "Alembic",
        projects.alembic_project,
        (str(VENVS / "alembic/bin/alembic"), "upgrade", "heads"),
        version=(str(VENVS / "alembic/bin/alembic"), "--version"),
    ),
    Peer(
        "Alembic, lock directory",
        projects.alembic_project,
        (str(VENVS / "alembic/bin/python"), str(RECIPE)),
    ),
    Peer(
        "yoyo-migrations",
        projects.yoyo_project,
        (
            *(str(VENVS / "yoyo/bin/yoyo"), "apply", "--batch", "--no-config-file"),
            *("--database", "sqlite:///app.db", "migrations"),
        ),
        version=(str(VENVS / "yoyo/bin/python"), "-c", _VERSION_OF.format("yoyo-migrations")),
    ),
    Peer(
        "Django migrate",
        projects.django_project,
        (str(VENVS / "django/bin/python"), "-m", "django", "migrate", "--verbosity", "0"),
        version=(str(VENVS / "django/bin/python"), "-m", "django", "--version"),
        variables=(("DJANGO_SETTINGS_MODULE", "settings"), ("PYTHONPATH", ".")),
    ),
    Peer(
        "dbmate",
        projects.dbmate_project,
        (
            *(str(VENVS / "node_modules/.bin/dbmate"), "--url", "sqlite:app.db"),
            *("--no-dump-schema", "up"),
        ),
        version=(str(VENVS / "node_modules/.bin/dbmate"), "--version"),
    ),
)


@dataclass
class Fates:
    """What became of the processes of all rounds."""

    ready: int = 0
    unmigrated: int = 0
    failed: int = 0
    broken: int = 0
    last_words: str = ""


def report(bench: Bench) -> str:
    """Both tables, as Markdown."""
    starts, whole = [], []
    for peer in PEERS:
        if not peer.installed:
            print(f"{peer.name} is left out: there is no {peer.command[0]}; see `make bench`")
            continue
        name = peer.described()
        starts.append([name, *_together(bench, peer)])
        print(" | ".join(starts[-1]), flush=True)
        whole.append([name, *_alone(bench, peer)])
        print(" | ".join(whole[-1]), flush=True)
    size = bench.size(100, 5)
    return (
        f"## {STARTERS} processes start together\n\n"
        f"{MIGRATIONS} migrations of about 0.3 s each on an absent SQLite database. "
        "*Unmigrated*: the process ended\nwith 0, as if ready, before the last migration was "
        "in the database.\n\n"
        f"{table(_STARTS, starts)}\n\n"
        f"## One process alone, {size} migrations, the whole process\n\n"
        f"{table(_ALONE, whole)}\n"
    )


_STARTS = ("tool", "ready", "unmigrated", "failed", "ends", "until the last, s", "a loser's words")
_ALONE = ("tool", "cold, wall ms", "cold, CPU ms", "nothing to do, wall ms", "CPU ms")


def _together(bench: Bench, peer: Peer) -> list[str]:
    fates, seconds = Fates(), []
    for number in range(bench.rounds):
        path = bench.directory / f"together-{PEERS.index(peer)}-{number}"
        peer.make(path, MIGRATIONS, slow_rows=bench.size(1_000_000, 200_000))
        seconds.append(_start(peer, path, fates))
    ends = "migrated" if not fates.broken else f"not migrated, {fates.broken} of {bench.rounds}"
    counts = [str(fates.ready), str(fates.unmigrated), str(fates.failed)]
    return [*counts, ends, f"{median(seconds):.2f}", fates.last_words]


def _start(peer: Peer, path: Path, fates: Fates) -> float:
    began = time.perf_counter()
    children = [
        subprocess.Popen(
            peer.command,
            cwd=path,
            env=environment(**dict(peer.variables)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(STARTERS)
    ]

    def follow(child: subprocess.Popen[str]) -> None:
        output = child.communicate()[0]
        if child.returncode:
            fates.failed += 1
            fates.last_words = _last_line(output) or fates.last_words
        elif _is_migrated(path):
            fates.ready += 1
        else:
            fates.unmigrated += 1

    threads = [Thread(target=follow, args=(child,)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    fates.broken += not _is_migrated(path)
    return seconds


def _alone(bench: Bench, peer: Peer) -> list[str]:
    path = peer.make(bench.directory / f"alone-{PEERS.index(peer)}", bench.size(100, 5))

    def one() -> Sample:
        return process(peer.command, path, **dict(peer.variables))

    cold, warm = [], []
    for _ in range(bench.rounds):
        projects.forget_database(path)
        cold.append(one())
        warm.append(one())
    return [
        f"{median(getattr(sample, by) for sample in samples) * 1000:,.0f}"
        for samples in (cold, warm)
        for by in ("wall", "cpu")
    ]


def _is_migrated(path: Path) -> bool:
    """Whether the last migration is visible now; a writer in the way says that it is not."""
    uri = f"file:{path / 'app.db'}?mode=rw"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=0.05)
        try:
            return bool(connection.execute(f"SELECT 1 FROM table_{MIGRATIONS}").fetchall())
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return False


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    told = [line for line in lines if "rror" in line and not line.startswith("(Background")]
    return (told or lines or [""])[-1].replace("|", "/")[:90]
