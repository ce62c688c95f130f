"""What the journal costs: to read whole, to read from its end, and to write.

    python -m benchmarks.journal                      # a smoke run of a second or two
    python -m benchmarks.journal --events 1000000     # the size that is claimed

Each reading is done by a process of its own, on one core, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.events import RevisionApplied
from orchestrator.journal.writer import Journal, Origin

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_MIGRATIONS = (
    ("3d1f0a9c77b2", "create artists, albums and tracks"),
    ("8c40e2b1559a", "add ON DELETE CASCADE to the foreign keys"),
    ("b7725d6e0f13", "fill the column of the play counts"),
)
_READ = """
import json, resource, sys, time
from orchestrator.journal.reader import Tally, last_runs, wanted_runs
from orchestrator.timeline.filter import Filter
wall, processor = time.perf_counter(), time.process_time()
with open(sys.argv[1], "rb") as file:
    if sys.argv[2] == "whole":
        runs = wanted_runs([file], 20, Tally(), Filter(outcome="ready"))
    else:
        runs = last_runs([file], 20, Tally())
assert len(runs) == 20
print(json.dumps([
    time.perf_counter() - wall,
    time.process_time() - processor,
    resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
]))
"""
_LOGS = "from orchestrator.cli.logs import app; app()"


def main() -> None:
    """Print every figure, each beside what is claimed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--events", type=int, default=20_000, help="size of the journal")
    parser.add_argument("--writes", type=int, default=20_000, help="events to write")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal.jsonl"
        _measure_tail(path, arguments.events)
        _measure_reading(path, arguments.events)
        _measure_writing(Path(directory) / "written.jsonl", arguments.writes)


def _measure_reading(path: Path, events: int) -> None:
    size = _write_journal(path, events)
    print(f"a journal of {events:,} events, {size / 1e6:.0f} MB")
    wall, processor, peak = _read(path, "whole")
    print(f"  read whole      {events / processor:>10,.0f} events a processor second  "
          f"(claimed: 150,000); {events / wall:,.0f} by the clock")  # fmt: skip
    print(f"  its peak memory {peak:>10,.0f} MB  (claimed: 200 or less)")
    command = [sys.executable, "-c", _LOGS, "runs", "--outcome", "ready", "--journal", str(path)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=_one_core)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"  `orchestrator logs runs --outcome ready`: {spent:.2f} processor seconds with its "
          f"imports, peak memory {after.ru_maxrss / 1024:.0f} MB")  # fmt: skip


def _measure_tail(path: Path, events: int) -> None:
    print("the last 20 runs, read from the end  (claimed: the same time for any size)")
    for part in (events // 100, events // 10, events):
        size = _write_journal(path, part)
        best = min(_read(path, "tail")[0] for _ in range(5))
        print(f"  of {part:>9,} events {best * 1000:>8.2f} ms  ({size / 1e6:,.1f} MB)")


def _measure_writing(path: Path, events: int) -> None:
    origin = Origin(host="web-1", pid=4711, database="sqlite:////srv/app.db", release="1.4.2")
    journal = Journal(path, origin)
    revision, description = _MIGRATIONS[0]
    event = RevisionApplied(
        run_id="0" * 32,
        sequence=7,
        at=_EPOCH,
        task="upgrade",
        revision=revision,
        description=description,
        position=1,
        total=3,
        duration_seconds=0.2,
    )
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(events):
        journal(event)
    processor, wall = time.process_time() - processor, time.perf_counter() - wall
    journal.close()
    print(f"writing an event  {wall / events * 1e6:.1f} µs by the clock  (claimed: 50 or less), "
          f"{processor / events * 1e6:.1f} µs of the processor")  # fmt: skip


def _read(path: Path, how: str) -> tuple[float, float, float]:
    """Seconds by the clock and of the processor, and peak memory in MiB."""
    result = subprocess.run(
        [sys.executable, "-c", _READ, str(path), how],
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=_one_core,
    )
    wall, processor, peak = json.loads(result.stdout)
    return wall, processor, peak


def _one_core() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _write_journal(path: Path, events: int) -> int:
    """Write that many events of deploys of eight processes each; returns the size in bytes."""
    with path.open("w", encoding="utf-8") as file:
        for values in itertools.islice(_deploys(), events):
            file.write(json.dumps(values, separators=(",", ":")) + "\n")
    return path.stat().st_size


def _deploys() -> Iterator[dict[str, Any]]:
    for deploy in itertools.count():
        began = _EPOCH + timedelta(minutes=7 * deploy)
        stories = [
            _story(f"{deploy * 8 + process:032x}", process, began, f"{deploy * 8:032x}")
            for process in range(8)
        ]
        for events in itertools.zip_longest(*stories):
            yield from (event for event in events if event is not None)


def _story(run_id: str, process: int, began: datetime, leader: str) -> list[dict[str, Any]]:
    told = [
        (0.0, "run_started", {"command": "run", "mode": "migrate", "target": "heads",
                              "lock_timeout_seconds": 300.0}),
        (0.01, "state_observed", {"state": "empty", "versions": [],
                                  "target_revisions": [_MIGRATIONS[-1][0]], "under_lock": False}),
        *(_led() if process == 0 else _waited(leader, process)),
    ]  # fmt: skip
    envelope = {
        "level": "info",
        "host": f"web-{process // 4}",
        "pid": 4711 + process,
        "database": "sqlite:////srv/app/var/app.db",
        "release": "2026.1.3",
        "run_id": run_id,
    }
    return [
        {
            "at": (began + timedelta(seconds=offset, microseconds=process)).isoformat(),
            "event": name,
            **envelope,
            "sequence": sequence,
            **values,
        }
        for sequence, (offset, name, values) in enumerate(told)
    ]


def _led() -> Iterator[tuple[float, str, dict[str, Any]]]:
    yield 0.02, "lock_acquired", {"lock": "file", "waited_seconds": 0.0}
    yield 0.03, "plan_made", {"tasks": ["upgrade"], "revisions": [one for one, _ in _MIGRATIONS]}
    yield 0.03, "task_started", {"task": "upgrade"}
    applied = []
    for position, (revision, description) in enumerate(_MIGRATIONS, start=1):
        now = {
            "task": "upgrade",
            "revision": revision,
            "description": description,
            "position": position,
            "total": len(_MIGRATIONS),
        }
        yield 0.1 * position, "revision_started", now
        yield 0.1 * position + 0.09, "revision_applied", {**now, "duration_seconds": 0.09}
        applied.append({"revision": revision, "description": description, "duration_seconds": 0.09})
    yield 0.5, "task_succeeded", {"task": "upgrade", "duration_seconds": 0.47}
    yield 0.6, "lock_released", {"lock": "file", "held_seconds": 0.58}
    yield 0.6, "database_ready", {"versions": [_MIGRATIONS[-1][0]], "applied": applied,
                                  "led": True, "duration_seconds": 0.6}  # fmt: skip


def _waited(leader: str, process: int) -> Iterator[tuple[float, str, dict[str, Any]]]:
    holder = {
        "run_id": leader,
        "host": "web-0",
        "pid": 4711,
        "command": "run",
        "since": _EPOCH.isoformat(),
        "release": "2026.1.3",
        "task": "upgrade",
        "revision": _MIGRATIONS[process % 3][0],
    }
    for waited in (0.05, 0.3):
        yield waited, "lock_waiting", {"lock": "file", "holder": holder, "waited_seconds": waited}
    yield 0.61, "state_observed", {"state": "current", "versions": [_MIGRATIONS[-1][0]],
                                   "target_revisions": [_MIGRATIONS[-1][0]],
                                   "under_lock": False}  # fmt: skip
    yield 0.62, "database_ready", {"versions": [_MIGRATIONS[-1][0]], "applied": [],
                                   "led": False, "duration_seconds": 0.62}  # fmt: skip


if __name__ == "__main__":
    main()
