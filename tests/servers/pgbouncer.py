"""A PgBouncer of the tests' own, in front of a server of theirs."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.servers.host import free_port, unprivileged
from tests.servers.postgresql import USER, PostgreSQLServer

DEADLINE_SECONDS = 60.0
CONFIGURATION = """
[databases]
* = host=127.0.0.1 port={server}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
max_client_conn = 400
default_pool_size = 20
server_lifetime = 3600
"""


def program() -> str:
    """Where PgBouncer is; skips where it is not, and fails in CI, which installs it."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        assert not os.environ.get("CI"), "CI has to install PgBouncer"
        pytest.skip("PgBouncer is not installed")
    return found


@contextmanager
def pgbouncer(server: PostgreSQLServer, mode: str) -> Iterator[int]:
    """The port of a pooler in this mode, until the end of the block."""
    binary = program()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as directory:
        os.chmod(directory, 0o755)
        file = Path(directory) / "pgbouncer.ini"
        text = CONFIGURATION.format(server=server.port, port=port, mode=mode)
        file.write_text(text.replace("* = host", f"* = user={USER} host"))
        process = subprocess.Popen(
            [binary, "-q", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **unprivileged(),
        )
        try:
            _wait(process, port)
            yield port
        finally:
            process.kill()
            process.wait(DEADLINE_SECONDS)


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        assert process.poll() is None, "PgBouncer has ended"
        try:
            psycopg.connect(
                f"host=127.0.0.1 port={port} user={USER} dbname=postgres", connect_timeout=5
            ).close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline
            time.sleep(0.02)
