"""Runs one round: the racers, the faults at their instants, the invariants."""

from __future__ import annotations

import os
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.projects import Project
from tests.races import faults, invariants
from tests.races.plan import LONGEST_REVISIONS, Fault, Racer, Round
from tests.races.processes import Process, start, wait
from tests.races.project import Dump, dump, make_race

DEADLINE_SECONDS: Final = 90.0
"""From the start of a racer to its end; the longest lock timeout is 60 s."""


@dataclass
class Result:
    """What came of a round. `log` tells what was done, each line with its instant."""

    faults: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class Race:
    """One round in a directory of its own. `prefixes` is what `undisturbed` returned."""

    def __init__(self, race: Round, path: Path, prefixes: list[Dump]) -> None:
        self.result = Result()
        self._race = race
        self._path = path
        self._prefixes = prefixes
        self._processes: list[Process] = []
        self._began = time.monotonic()
        self._later: list[tuple[float, Any]] = []

    def run(self) -> Result:
        """Run the round to its end."""
        with ExitStack() as stack:
            disk = self._path / "disk"
            small = self._race.small_disk and stack.enter_context(faults.small_disk(disk))
            project = make_race(disk if small else self._path / "project", self._race.revisions)
            self._filler = faults.Filler(disk) if small else None
            broken = self._path / "broken-"
            if self._race.broken is not None:
                self._path.joinpath(f"broken-r{self._race.broken}").touch()
            environment = project.environment(
                RACE_SECONDS=str(self._race.seconds),
                RACE_BROKEN=str(broken),
                ORCHESTRATOR_TRANSACTION=self._race.transaction,
                ORCHESTRATOR_ON_PEER_FAILURE=self._race.on_peer_failure,
            )
            self._prepare(project, environment)
            self._race_and_disturb(project, environment)
            self._check(project, environment)
        return self.result

    def _prepare(self, project: Project, environment: dict[str, str]) -> None:
        if self._race.journal_mode == "wal":
            connection = sqlite3.connect(project.database)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.close()
        if self._race.there:
            calm = {**environment, "RACE_SECONDS": "0", "RACE_BROKEN": "/nowhere/"}
            process = self._start(project, calm, "preparation", "upgrade", f"r{self._race.there}")
            if wait(process) != 0:
                raise RuntimeError(f"the round could not be prepared: {process.stderr.text}")

    def _race_and_disturb(self, project: Project, environment: dict[str, str]) -> None:
        self._began = time.monotonic()
        agenda: list[tuple[float, Any]] = [
            (racer.delay_seconds, (self._enter, racer, number, project, environment))
            for number, racer in enumerate(self._race.racers)
        ]
        agenda += [(fault.at_seconds, (self._do, fault, project)) for fault in self._race.faults]
        self._later = sorted(agenda, key=lambda item: item[0])
        while self._later or any(process.alive() for process in self._processes):
            while self._later and self._later[0][0] <= self._elapsed():
                action, *arguments = self._later.pop(0)[1]
                action(*arguments)
            late = [p for p in self._processes if time.monotonic() - p.started > DEADLINE_SECONDS]
            if not self._later and any(process.alive() for process in late):
                break
            time.sleep(0.003)
        for process in self._processes:
            if process.alive():
                process.signal(signal.SIGUSR1)  # tells its stacks
                time.sleep(0.5)
            self._say(f"{process.name} ended: {process.code}\n{process.stderr.text}".rstrip())
            self.result.ends[_end(process.code)] += 1
        self.result.violations += invariants.of_processes(self._race, self._processes)
        self.result.violations += invariants.of_leaders(self._path / "at-work")
        for process in self._processes:
            process.kill()

    def _check(self, project: Project, environment: dict[str, str]) -> None:
        if self._filler is not None:
            self._filler.empty()
        prefixes = self._prefixes[: self._race.revisions + 1]
        violations = invariants.of_database(project, prefixes)
        violations += invariants.of_lock(project.state / "lock")
        calm = {**environment, "RACE_SECONDS": "0", "RACE_BROKEN": "/nowhere/"}
        process = self._start(project, calm, "afterwards", "run", "--json")
        if wait(process) != 0:
            violations.append(f"5: a further run ended with {process.code}: {process.stderr.text}")
        process.kill()
        if dump(project.database) != prefixes[-1]:
            violations.append("5: a further run did not lead to the newest revision")
        violations += invariants.of_database(project, prefixes)
        torn = sum(fault.kind in ("kill", "disk", "terminate") for fault in self._race.faults)
        violations += invariants.of_journal(project.state / "journal.jsonl", torn=2 * torn)
        self.result.violations += violations
        if violations:
            self._say(f"the journal:\n{_read(project.state / 'journal.jsonl')}")

    def _enter(
        self, racer: Racer, number: int, project: Project, environment: dict[str, str]
    ) -> None:
        variables = {
            **environment,
            "ORCHESTRATOR_LOCK_TIMEOUT_SECONDS": str(racer.lock_timeout_seconds),
        }
        if racer.command == "run":
            variables["RACE_MARKER"] = str(self._path / "at-work")  # the others hold no lock
        process = self._start(
            project, variables, f"racer {number}", racer.command, "--json", racer=racer
        )
        self._processes.append(process)
        if racer.clock_seconds:
            self.result.faults["clock"] += 1

    def _start(
        self,
        project: Project,
        environment: dict[str, str],
        name: str,
        command: str,
        *arguments: str,
        racer: Racer | None = None,
    ) -> Process:
        order = {
            "cwd": str(project.path),
            "database": str(project.database),
            "environment": environment,
            "head": self._race.heads,
            "command": command,
            "arguments": arguments,
            "door": racer.door if racer else "command",
            "backend": racer.backend if racer else "asyncio",
            "clock_seconds": racer.clock_seconds if racer else 0.0,
        }
        process = start(order, name=name, fresh=racer is not None and racer.fresh)
        self._say(f"{name}: {command} in pid {process.pid}")
        return process

    def _do(self, fault: Fault, project: Project) -> None:
        record = project.state / "run.json"
        if fault.kind == "garbage":
            faults.overwrite(record, faults.GARBAGE[int(fault.size) % len(faults.GARBAGE)])
            self._count("garbage", None)
            return
        if fault.kind == "disk" and self._filler is not None:
            self._filler.fill(int(fault.size))
            self._count("disk full", None)
            # Given back, so that some who wait find room again.
            self._at(self._elapsed() + 0.3, self._filler.empty)
            return
        victim = self._victim(fault, record)
        if victim is None:
            self._say(f"{fault.kind}: nobody is there")
            return
        victim.faults.append(fault.kind)
        self._count("file-size limit" if fault.kind == "disk" else fault.kind, victim)
        if fault.kind == "disk":
            faults.limit_files(victim, int(fault.size))
            return
        victim.signal(faults.SIGNALS[fault.kind])
        if fault.kind == "stop":
            self._at(self._elapsed() + fault.size, lambda: victim.signal(signal.SIGCONT))
        elif fault.kind == "terminate" and fault.size:
            self._at(self._elapsed() + fault.size, lambda: victim.signal(signal.SIGTERM))

    def _victim(self, fault: Fault, record: Path) -> Process | None:
        there = [process for process in self._processes if process.alive()]
        if not there:
            return None
        if fault.aim is None:
            leader = faults.holder(record, there)
            if leader is not None:
                return leader
        return there[(fault.aim or 0) % len(there)]

    def _at(self, instant: float, action: Any) -> None:
        self._later.append((instant, (action,)))
        self._later.sort(key=lambda item: item[0])

    def _count(self, kind: str, victim: Process | None) -> None:
        self.result.faults[kind] += 1
        self._say(f"{kind}{f' for {victim.name}' if victim else ''}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        self.result.log.append(f"{self._elapsed():7.3f} {text}")


def undisturbed() -> list[Dump]:
    """What the database is like after 0, 1, … revisions that one process runs in peace."""
    plan = Round(
        seed=0,
        revisions=LONGEST_REVISIONS,
        there=0,
        seconds=0.0,
        transaction="env",
        journal_mode="delete",
        on_peer_failure="fail",
        small_disk=False,
        broken=None,
        racers=(),
        faults=(),
    )
    with tempfile.TemporaryDirectory() as directory:
        race = Race(plan, Path(directory), [])
        project = make_race(Path(directory) / "project", LONGEST_REVISIONS)
        dumps: list[Dump] = [()]
        for position in range(1, LONGEST_REVISIONS + 1):
            process = race._start(project, project.environment(), "calm", "upgrade", f"r{position}")
            if wait(process) != 0:
                raise RuntimeError(f"the undisturbed run failed: {process.stderr.text}")
            dumps.append(dump(project.database))
    return dumps


def _end(code: int | None) -> str:
    return "none" if code is None else f"signal {-code}" if code < 0 else f"exit {code}"


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if os.path.exists(path) else "none"
