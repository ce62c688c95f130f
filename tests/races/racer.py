"""What one racing process does; runs in a forked child, or as `python -m tests.races.racer`."""

from __future__ import annotations

import datetime as dt
import faulthandler
import json
import os
import resource
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from typing import Any

_FAULT_OF_OURS = 99


def race(order: Mapping[str, Any]) -> int:
    """Do what was ordered, and return the exit code."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.path.insert(0, order["cwd"])
    # On a disk that fills up Python leaves bytecode cut short, over which all trip afterwards.
    sys.dont_write_bytecode = True
    if order["clock_seconds"]:
        move_clock(order["clock_seconds"])
    try:
        if order["door"] == "library" and order["command"] == "run":
            return _library(order)
        return _command(order)
    except BaseException:  # noqa: BLE001 - told, and shown by the code
        traceback.print_exc()
        return _FAULT_OF_OURS
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _command(order: Mapping[str, Any]) -> int:
    from orchestrator.cli import main

    sys.argv = ["orchestrator", order["command"], *order["arguments"]]
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(bool(end.code))
        if code:
            return code
    if order["command"] in ("run", "wait"):
        _bear_witness(order)
    return 0


def _library(order: Mapping[str, Any]) -> int:
    import anyio

    from orchestrator import Orchestrator, OrchestratorError
    from orchestrator.events import DatabaseReady, Event

    def witness(event: Event) -> None:
        if isinstance(event, DatabaseReady):
            _bear_witness(order)

    try:
        report = anyio.run(Orchestrator(sinks=[witness]).run, backend=order["backend"])
    except OrchestratorError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return error.exit_code
    sys.stdout.write(f"{report}\n")
    return 0


def _bear_witness(order: Mapping[str, Any]) -> None:
    """Say so, where the database is behind at the instant at which the process is ready."""
    rows = _rows(order["database"])
    if rows != [(order["head"],)]:
        sys.stderr.write(f"READY WHILE BEHIND: at {rows}, not at {order['head']}\n")


def _rows(database: str) -> list[tuple[str]]:
    """The version rows, or what SQLite says instead.

    A full disk is the fault of the racer, not of the witness: to read a database in WAL mode
    SQLite writes a file of its own, and a limit or a full disk that it runs into is a `disk I/O
    error`. Where there is no room at all, a copy is read.
    """
    while True:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=20)
        try:
            return connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.OperationalError:
            if resource.getrlimit(resource.RLIMIT_FSIZE) == (hard, hard):
                return _rows_of_copy(database)
            # The limit came in the middle of it.
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        finally:
            connection.close()
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _rows_of_copy(database: str) -> list[tuple[str]]:
    with tempfile.TemporaryDirectory() as elsewhere:
        for suffix in ("", "-wal"):
            if os.path.exists(database + suffix):
                shutil.copy(database + suffix, f"{elsewhere}/app.db{suffix}")
        connection = sqlite3.connect(f"{elsewhere}/app.db")
        try:
            return connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.Error as error:
            return [(str(error),)]
        finally:
            connection.close()


def move_clock(seconds: float) -> None:
    """Move the wall clock of this process, and let it jump back after half a second."""
    real_time, real_datetime, began = time.time, dt.datetime, time.monotonic()

    def offset() -> float:
        return seconds if time.monotonic() - began < 0.5 else seconds - 3600.0

    class AnyDatetime(type(real_datetime)):  # type: ignore[misc] # a metaclass
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real_datetime)

    class Moved(real_datetime, metaclass=AnyDatetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real_datetime.now(tz) + dt.timedelta(seconds=offset())

    time.time = lambda: real_time() + offset()
    dt.datetime = Moved  # type: ignore[misc] # on purpose
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "orchestrator" and hasattr(module, "datetime"):
            module.datetime = Moved


if __name__ == "__main__":
    sys.exit(race(json.loads(sys.argv[1])))
