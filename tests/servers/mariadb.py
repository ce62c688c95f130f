"""A MariaDB server of the tests' own, from the distribution's packages where they are."""

from __future__ import annotations

import atexit
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
from typing import Any

import pymysql
import pytest

from tests.servers.host import Directories, ended_with_parent, free_port, unprivileged

DEADLINE_SECONDS = 60.0
USER = "app"
PASSWORD = "s3cret-enough"
SETTINGS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--max-connections=200",
    "--innodb-buffer-pool-size=32M",
    "--innodb-flush-log-at-trx-commit=0",
    "--skip-log-bin",
)


def find_mariadb() -> str | None:
    """The server's program, which is in no user's path; None where it is not installed."""
    return shutil.which("mariadbd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class MariaDBServer:
    """A running server; `stop` ends it, and so does the end of this process, however it comes."""

    def __init__(self, *settings: str, on_disk: bool = False) -> None:
        program = find_mariadb()
        assert program is not None
        self._program = program
        self._settings = settings
        self._directories = Directories("mariadb", on_disk=on_disk)
        self._directory = self._directories.base
        self._numbers = count()
        data = self._data = self._directories.make("data")
        # One that starts takes away what it finds of temporary tables, also another server's.
        self._temporary = self._directories.make("tmp")
        self._who = unprivileged()
        subprocess.run(
            [
                "mariadb-install-db",
                "--no-defaults",
                f"--datadir={data}",
                f"--tmpdir={self._temporary}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--innodb-log-file-size=8M",
            ],
            check=True,
            capture_output=True,
            **self._who,
        )
        self.port = free_port()
        self._process = self._start()
        self._wait_until_ready()
        for statement in (
            f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'",
            f"GRANT ALL ON *.* TO {USER}@'%' WITH GRANT OPTION",
        ):
            self.execute(statement)

    def kill(self) -> None:
        """Kill the server, as a host that loses power does."""
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)

    def ensure(self) -> None:
        """Start it again, where it was killed, and let it go on, where it was paused."""
        self.go_on()
        if self._process.poll() is not None:
            self._process = self._start()
        self._wait_until_ready()

    def pause(self) -> None:
        """Let it do nothing, and close nothing, until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGCONT)

    def url(self, database: str, driver: str = "mysql+pymysql") -> str:
        """The URL of one of its databases."""
        return f"{driver}://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str | None = None, user: str = "root") -> Any:
        """A connection in autocommit; of root's, who has no password here."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user=user,
            password="" if user == "root" else PASSWORD,
            database=database,
            autocommit=True,
            connect_timeout=5,
            ssl_disabled=True,  # it would read all certificates of this machine, each time
        )

    def execute(self, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """What a statement gives, as root."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())

    @contextmanager
    def database(self) -> Iterator[str]:
        """The name of a database of one's own, dropped at the end of the block."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield name
        finally:
            for (number,) in self.execute(
                f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
            ):
                with suppress(pymysql.Error):
                    self.execute(f"KILL {number}")  # it would keep the tables
            self.execute(f"DROP DATABASE {name}")

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self._directory / "log").read_text(errors="replace")

    def stop(self) -> None:
        """End the server and remove its files."""
        self.go_on()
        self._process.kill()
        self._process.wait(DEADLINE_SECONDS)
        self._directories.remove()

    def _start(self) -> subprocess.Popen[bytes]:
        with (self._directory / "log").open("ab") as log:
            return subprocess.Popen(
                [
                    self._program,
                    "--no-defaults",
                    f"--datadir={self._data}",
                    f"--tmpdir={self._temporary}",
                    f"--socket={self._data}/s",
                    f"--port={self.port}",
                    *SETTINGS,
                    *self._settings,
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                # It calls nothing that takes a lock.
                preexec_fn=ended_with_parent(signal.SIGKILL),  # noqa: PLW1509
                **self._who,
            )

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            assert self._process.poll() is None, self.log
            try:
                self.execute("SELECT 1")
                return
            except pymysql.err.OperationalError:
                assert time.monotonic() < deadline, self.log
                time.sleep(0.01)


def needs_mariadb() -> None:
    """Skip the test where MariaDB is not installed; under CI that is a failure."""
    if find_mariadb() is None:
        if os.environ.get("CI"):
            pytest.fail("MariaDB is not installed: `.ci/run` does it")
        pytest.skip("MariaDB is not installed (Debian: mariadb-server)")


def galera_node() -> MariaDBServer:
    """A server that is the only node of a cluster: the distribution's server brings the library."""
    provider = Path("/usr/lib/galera/libgalera_smm.so")
    if not provider.exists():
        pytest.skip("there is no library of Galera's")
    return MariaDBServer(
        "--wsrep_on=ON",
        f"--wsrep_provider={provider}",
        "--wsrep_cluster_address=gcomm://",
        "--wsrep_node_address=127.0.0.1",
        f"--wsrep_provider_options=gmcast.listen_addr=tcp://127.0.0.1:{free_port()}",
        "--binlog-format=ROW",
        "--innodb_autoinc_lock_mode=2",
    )


@cache
def shared_mariadb() -> MariaDBServer:
    """The server of this process, for all its tests.

    Skips where it is not installed; under CI that is a failure.
    """
    needs_mariadb()
    server = MariaDBServer()
    atexit.register(server.stop)
    return server
