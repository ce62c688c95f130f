"""What must be true after a race, whatever happened in it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.locks.file import is_held
from tests.projects import Project
from tests.races.plan import PATIENT_SECONDS, Round
from tests.races.processes import Process
from tests.races.project import Dump, applied, dump

_DOCUMENTED: Final = {0, 1, 2, 3, 4, 5, 6, 128 + 15}
_TERMINAL: Final = ("database_ready", "run_failed", "run_cancelled")


def of_processes(race: Round, processes: Sequence[Process]) -> list[str]:
    """Nobody hangs, nobody ends for a reason that the race did not have, nobody is too early."""
    violations = []
    disk = any(fault.kind == "disk" for fault in race.faults)
    for process in processes:
        told = f"{process.name} (pid {process.pid}, exit {process.code})"
        signalled = {"kill": {-9}, "terminate": {-15, 143}}
        allowed = set().union(*(signalled.get(kind, set()) for kind in process.faults)) | {0}
        racer = race.racers[int(process.name.removeprefix("racer "))]
        if racer.lock_timeout_seconds < PATIENT_SECONDS:
            allowed.add(3)
        if disk or race.broken is not None:
            allowed.add(1)
        if disk:
            allowed |= {2, 5}
        if process.code is None:
            violations.append(f"4: {told} has not ended")
        elif process.code >= 0 and process.code not in _DOCUMENTED:
            violations.append(f"4: {told} ended with a code that is not documented")
        elif process.code not in allowed:
            violations.append(f"4: {told} had no reason to end so; faults: {process.faults}")
        if "READY WHILE BEHIND" in process.stderr.text:
            violations.append(f"3: {told} was ready while the database was behind")
        if "Traceback" in process.stderr.text:
            violations.append(f"4: {told} ended with a traceback")
    return violations


def of_leaders(marker: Path) -> list[str]:
    """No two processes were inside `env.py` at once to migrate: that is what the lock is for."""
    twice = marker.with_name(f"{marker.name}-twice")
    return [f"2: at work at once were {os.readlink(twice)}"] if os.path.lexists(twice) else []


def of_database(project: Project, prefixes: Sequence[Dump]) -> list[str]:
    """The database is as after a whole number of revisions, each of which ran once."""
    try:
        found = dump(project.database)
    except sqlite3.Error as error:
        return [f"1: the database cannot be read: {error}"]
    # One that rolled back everything may leave a file without tables.
    if found not in prefixes:
        return [f"1: the database is like after no number of revisions: {_told(found)}"]
    position = list(prefixes).index(found)
    names = [f"r{number}" for number in range(1, position + 1)]
    ran = applied(project.database) if position else []
    return [] if ran == names else [f"2: applied were {ran} at {names}"]


def of_lock(lock: Path) -> list[str]:
    """Nobody holds the lock."""
    return ["5: the lock is held"] if is_held(lock) else []


def of_journal(path: Path, *, torn: int) -> list[str]:
    """Every run began once, ended at most once, and its sequence has no gaps.

    `torn` is how many lines may be cut short: one for each writer that was stopped by force.
    """
    violations = []
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        if not line:
            continue
        try:
            event = json.loads(line)
            runs[event["run_id"]].append(event)
        except (ValueError, KeyError, TypeError):
            torn -= 1
            if torn < 0:
                violations.append(f"6: a line cannot be read: {line[:200]!r}")
    for run, events in runs.items():
        names = [event["event"] for event in events]
        if [event["sequence"] for event in events] != list(range(len(events))):
            violations.append(f"6: run {run} has gaps: {[event['sequence'] for event in events]}")
        if names.count("run_started") != 1 or names[0] != "run_started":
            violations.append(f"6: run {run} began other than once: {names}")
        ends = [name for name in names if name in _TERMINAL]
        if len(ends) > 1 or (ends and names[-1] not in _TERMINAL):
            violations.append(f"6: run {run} ended other than once, last: {names}")
    return violations


def _told(found: Dump) -> list[str]:
    return [line[:100] for line in found if "INSERT INTO" not in line or "applied_log" in line]
