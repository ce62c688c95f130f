"""What the gate costs: a request once it is open, and a migration beside hostile clients.

    python -m benchmarks.gate [--rounds 5] [--revisions 300] [--smoke]

The first is measured in process, beside the application alone. For the second, uvicorn serves the
gate with one worker while a migration of SQLite runs in it; clients in a process of their own do
what they can meanwhile. A revision computes for 5 ms, so that it needs the processor as much as
they do. Each kind of client beside none, alternately; the figures are medians.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.harness import machine, table
from orchestrator import Orchestrator, Settings
from orchestrator.asgi import Gate
from tests.projects import Project, make_project

STREAMS: Final = 1000
SLOW: Final = 200
FLOODING: Final = 8
WORKERS: Final = 8
APPLICATION: Final = """
from orchestrator import Orchestrator
from orchestrator.asgi import Gate


async def inner(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"open"})


app = Gate(inner, Orchestrator.from_config())
"""
COMPUTES: Final = """
until = time.thread_time() + 0.005
while time.thread_time() < until:
    pass
"""

Client = Callable[[int], Awaitable[None]]


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def streams(port: int) -> None:
    """A thousand event streams, taken up again whenever they end."""

    async def one() -> None:
        while True:
            with suppress(OSError):
                reader, writer = await _connected(port)
                writer.write(
                    b"GET /readyz HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
                )
                while await reader.read(4096):
                    pass
            await asyncio.sleep(0.1)

    await asyncio.gather(*(one() for _ in range(STREAMS)))


async def slow(port: int) -> None:
    """Two hundred that send a request byte by byte, and never end."""

    async def one() -> None:
        while True:
            with suppress(OSError):
                _, writer = await _connected(port)
                for letter in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 10_000:
                    writer.write(bytes([letter]))
                    await writer.drain()
                    await asyncio.sleep(0.2)

    await asyncio.gather(*(one() for _ in range(SLOW)))


async def _flooded(port: int, request: bytes) -> None:
    async def one() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await _connected(port)
                while True:
                    writer.write(request)
                    await reader.readuntil(b"\r\n\r\n")
                    await asyncio.sleep(0)

    await asyncio.gather(*(one() for _ in range(FLOODING)))


async def wrong_methods(port: int) -> None:
    """Eight that send methods which make no sense, as fast as they are answered."""
    await _flooded(port, b"DELETE /readyz HTTP/1.1\r\nHost: x\r\n\r\n")


async def huge_headers(port: int) -> None:
    """Eight that send 60 kB of headers each time, as fast as they are answered."""
    filler = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(60))
    await _flooded(port, b"HEAD / HTTP/1.1\r\nHost: x\r\n" + filler + b"\r\n")


CLIENTS: Final[dict[str, Client]] = {
    "1000 event streams": streams,
    "200 slow requests": slow,
    "8 with wrong methods": wrong_methods,
    "8 with huge headers": huge_headers,
}


def _attack(client: Client, port: int) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    with suppress(KeyboardInterrupt):
        asyncio.run(client(port))  # type: ignore[arg-type]


def migrated(directory: Path, revisions: int, client: Client | None) -> float:
    """Seconds of the run, as it tells itself, from its start to the database being ready."""
    project = make_project(directory)
    names = [f"r{number}" for number in range(revisions)]
    for name, below in zip(names, [None, *names], strict=False):
        project.revision(name, below, COMPUTES)
    with _served(project, client=client):
        [end] = _ends(project, 1)
    return float(end["duration_seconds"])


@contextmanager
def _served(project: Project, *arguments: str, client: Client | None = None) -> Iterator[None]:
    project.write("gated.py", APPLICATION)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "gated:app", "--port", str(port), *arguments]
    command += ["--log-level", "critical"]
    attacker = None
    if client is not None:
        # They knock before there is a server.
        attacker = multiprocessing.get_context("fork").Process(target=_attack, args=(client, port))
        attacker.start()
    server = subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        server.terminate()
        if attacker is not None:
            attacker.kill()
            attacker.join()
        server.wait(60)


def spread(directory: Path) -> float:
    """Seconds from the first to the last worker that opens, after a migration of three seconds."""
    project = make_project(directory)
    project.revision("r1", None, "time.sleep(3)")
    with _served(project, "--workers", str(WORKERS)):
        found = _ends(project, WORKERS)
    at = [datetime.fromisoformat(line["at"]) for line in found]
    return (max(at) - min(at)).total_seconds()


def _ends(project: Project, runs: int) -> list[dict[str, Any]]:
    """The ends of so many runs."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if (project.state / "journal.jsonl").exists():
            found = [line for line in project.journal() if line["event"] == "database_ready"]
            if len(found) >= runs:
                return found
        time.sleep(0.05)
    raise TimeoutError("the database was not ready after 120 s")


async def _asked(app: Any, requests: int) -> float:
    scope = {"type": "http", "path": "/artists/7", "headers": [], "root_path": "", "state": {}}
    began = time.perf_counter()
    for _ in range(requests):
        await app(dict(scope), None, None)
    return (time.perf_counter() - began) / requests * 1e6


def open_gate(rounds: int, requests: int) -> tuple[float, float]:
    """Microseconds of a request to an application that does nothing, alone and behind the gate."""

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        pass

    gate = Gate(bare, Orchestrator(Settings(database_url="sqlite:///none.db", script_location="x")))
    gate.start.state = {"migration": None}
    alone, behind = [], []
    for _ in range(rounds):
        alone.append(asyncio.run(_asked(bare, requests)))
        behind.append(asyncio.run(_asked(gate, requests)))
    return statistics.median(alone), statistics.median(behind)


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--revisions", type=int, default=300)
    parser.add_argument("--smoke", action="store_true", help="once, small")
    arguments = parser.parse_args()
    rounds = 1 if arguments.smoke else arguments.rounds
    revisions = 5 if arguments.smoke else arguments.revisions
    print(machine())
    alone, behind = open_gate(rounds, 1_000 if arguments.smoke else 300_000)
    print(f"a request once it is open: {behind - alone:.2f} µs ({behind:.2f} beside {alone:.2f})\n")
    measured: dict[str, list[float]] = {name: [] for name in ("none", *CLIENTS)}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds):
            for name, found in measured.items():
                place = Path(directory) / json.dumps([number, name]).replace(" ", "").strip("[]")
                place.mkdir()
                found.append(migrated(place, revisions, CLIENTS.get(name)))
    none = statistics.median(measured["none"])
    rows = [
        (name, f"{(middle := statistics.median(found)):.2f} s", f"{middle / none:.2f}")
        for name, found in measured.items()
    ]
    print(table(("clients", "the migration", "beside none"), rows))
    with tempfile.TemporaryDirectory() as directory:
        spreads = []
        for number in range(rounds):
            place = Path(directory) / str(number)
            place.mkdir()
            spreads.append(spread(place))
    print(
        f"\nfrom the first to the last of {WORKERS} workers that are ready: "
        f"{statistics.median(spreads):.3f} s ({min(spreads):.3f} to {max(spreads):.3f})"
    )


if __name__ == "__main__":
    main()
