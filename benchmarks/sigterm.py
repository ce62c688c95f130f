"""How soon a command that waits for the lock has ended after SIGTERM.

    python -m benchmarks.sigterm [--repetitions 15] [--smoke]

Each time an interpreter of its own runs `orchestrator run` against a lock that is held here;
measured is the time from the signal to the end of the process, its exit code included.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from orchestrator import Orchestrator, Settings

TO_REACH_SECONDS = 0.2
_ENV_PY = "from orchestrator.environment import run_migrations\n\nrun_migrations()\n"
_REVISION = 'revision, down_revision = "r1", None\n\n\ndef upgrade():\n    pass\n'


def once(path: Path, settings: Settings) -> float:
    """Start a command, wait until it waits, end it; returns the seconds that took."""
    journal = path / ".app.db.orchestrator" / "journal.jsonl"
    journal.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "orchestrator", "run"],
        cwd=path,
        env={
            **os.environ,
            "ORCHESTRATOR_DATABASE_URL": str(settings.database_url),
            "ORCHESTRATOR_SCRIPT_LOCATION": str(settings.script_location),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not journal.exists() or "lock_waiting" not in journal.read_text():
        if time.monotonic() > deadline or process.poll() is not None:
            sys.exit("the command does not wait")
        time.sleep(0.01)
    time.sleep(0.1)  # into the loop, away from the beginning
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    code = process.wait(60)
    took = time.monotonic() - began
    if code != 128 + signal.SIGTERM:
        sys.exit(f"it ended with {code}")
    return took


def main() -> None:
    """Print the median and the longest."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sigterm", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--smoke", action="store_true", help="only once: does it run at all?")
    arguments = parser.parse_args()
    repetitions = 1 if arguments.smoke else arguments.repetitions
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        (path / "migrations" / "versions").mkdir(parents=True)
        (path / "migrations" / "env.py").write_text(_ENV_PY)
        (path / "migrations" / "versions" / "r1.py").write_text(_REVISION)
        settings = Settings(
            database_url=f"sqlite:///{path / 'app.db'}", script_location=str(path / "migrations")
        )
        resources = Orchestrator(settings).resources
        resources.prepare()
        lock = resources.lock()
        if not lock.try_acquire():
            sys.exit("the lock is not free")
        times = [once(path, settings) for _ in range(repetitions)]
        lock.release()
    print(
        f"SIGTERM to the end of a waiting command, {repetitions} times: median "
        f"{statistics.median(times):.3f} s, longest {max(times):.3f} s "
        f"(to reach: {TO_REACH_SECONDS} s)"
    )


if __name__ == "__main__":
    main()
