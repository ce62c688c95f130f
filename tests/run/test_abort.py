"""Stopped at once on a server: the statement is ended there, and what is said is true."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.projects import Finished, make_project
from tests.run.test_hosts import ENV_PY, Hosts, on_a_server, soon
from tests.servers.postgresql import shared_postgresql
from tests.zygote import Zygote

MAKES = "op.create_table('{}', sa.Column('id', sa.Integer))"
SLEEPS = "op.execute('SELECT pg_sleep(60)')"
ASLEEP = (
    "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active' "
    "AND datname = current_database() AND pid <> pg_backend_pid()"
)
AUTOCOMMIT = ENV_PY.replace("poolclass=pool.NullPool", 'isolation_level="AUTOCOMMIT"')
SWALLOWS = """
    try:
        with op.get_bind().begin_nested():
            op.execute("UPDATE t SET id = 7 FROM (SELECT pg_sleep(60)) AS x")
    except sa.exc.DBAPIError:
        pass
"""
SWALLOWS_IN_A_BLOCK = """
    with op.get_context().autocommit_block():
        op.execute("VACUUM")
        try:
            op.execute("SELECT pg_sleep(60)")
        except sa.exc.DBAPIError:
            pass
"""


@pytest.fixture
def hosts(tmp_path: Path, zygote: Zygote) -> Iterator[Hosts]:
    """A project without a revision, one transaction for all of them."""
    project = make_project(tmp_path)
    project.write("migrations/env.py", ENV_PY.format(each=False))
    with on_a_server(project, zygote) as hosts:
        yield hosts


def stopped_at_once(hosts: Hosts) -> Finished:
    """How a run ends that gets two signals while the server works for it."""
    [leader] = hosts.start()
    soon(lambda: hosts.ask(ASLEEP))
    leader.send(signal.SIGTERM)
    soon(lambda: "Once more" in leader.stderr)
    leader.send(signal.SIGTERM)
    return leader.finish()


def tables(hosts: Hosts) -> set[str]:
    return {
        name for (name,) in hosts.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    }


@pytest.mark.parametrize("each", [False, True])
def test_nothing_of_the_revision_is_kept(hosts: Hosts, each: bool) -> None:
    """It is cancelled, and what is kept is told; nobody takes it for a failure of the scripts."""
    hosts.project.write("migrations/env.py", ENV_PY.format(each=each))
    hosts.project.revision("r1", None, MAKES.format("t"))
    hosts.project.revision("r2", "r1", f"{MAKES.format('half')}\n{SLEEPS}")

    ended = stopped_at_once(hosts)

    assert (ended.code, ended.json["outcome"]) == (143, "cancelled"), ended.stderr
    applied = [one["revision"] for one in ended.json["applied"]]
    assert applied == (["r1"] if each else [])
    assert tables(hosts) == ({"alembic_version", "t"} if each else set())


@pytest.mark.parametrize("body", [SWALLOWS, SWALLOWS_IN_A_BLOCK], ids=["savepoint", "block"])
def test_a_revision_that_keeps_it_to_itself_has_not_run(hosts: Hosts, body: str) -> None:
    """Its statement was ended, so its version row is not written, whatever it makes of that."""
    hosts.project.write("migrations/env.py", ENV_PY.format(each=True))
    hosts.project.revision("r1", None, MAKES.format("t"))
    hosts.project.revision("r2", "r1", body.replace("\n    ", "\n").strip())

    ended = stopped_at_once(hosts)

    assert hosts.ask("SELECT version_num FROM alembic_version") == [("r1",)]
    if body == SWALLOWS:
        assert (ended.code, ended.json["outcome"]) == (143, "cancelled"), ended.stderr
    else:
        assert (ended.code, ended.json["outcome"]) == (143, "failed"), ended.stderr
        assert "stopped in the middle of the revision" in ended.json["error"]["message"]


def test_peers_do_not_take_it_for_theirs(hosts: Hosts) -> None:
    """Who waits on this host goes on when somebody has stopped the leader."""
    hosts.project.revision("r1", None, f"import os\nif not os.path.exists('go'):\n    {SLEEPS}")
    hosts.project.revision(
        "r2",
        "r1",
        f"import os\nif not os.path.exists('go'):\n"
        f"    with op.get_context().autocommit_block():\n        {SLEEPS}",
    )
    [leader] = hosts.start()
    soon(lambda: hosts.ask(ASLEEP))
    [waiter] = hosts.start()
    soon(lambda: hosts.journal(0, "lock_waiting"))
    (hosts.project.path / "go").touch()
    leader.send(signal.SIGTERM)
    soon(lambda: "Once more" in leader.stderr)
    leader.send(signal.SIGTERM)

    assert leader.finish().code == 143
    ended = waiter.finish()
    assert (ended.code, ended.json["versions"]) == (0, ["r2"]), ended.stderr


@pytest.mark.parametrize("how", ["fails", "is lost", "is stopped"])
def test_an_engine_in_autocommit_keeps_what_was_done(hosts: Hosts, how: str) -> None:
    """Nobody says that nothing was changed."""
    ends = "raise RuntimeError('boom')" if how == "fails" else SLEEPS
    assert AUTOCOMMIT != ENV_PY
    hosts.project.write("migrations/env.py", AUTOCOMMIT.format(each=False))
    hosts.project.revision("r1", None, f"{MAKES.format('half')}\n{ends}")

    if how == "is stopped":
        ended = stopped_at_once(hosts)
    else:
        [leader] = hosts.start()
        if how == "is lost":
            soon(lambda: hosts.ask(ASLEEP))
            hosts.ask(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
            )
        ended = leader.finish()

    assert ended.code == {"fails": 1, "is lost": 5, "is stopped": 143}[how], ended.stderr
    assert "half" in tables(hosts)
    kept = "Revision r1 may be half done" if how == "is lost" else "committed before that is kept"
    assert kept in ended.json["error"]["message"]
    assert "resolve --rolled-back r1" in ended.json["error"]["message"]
    assert "Nothing was changed" not in ended.stdout + ended.stderr
    assert "as it was" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_connection_that_is_lost_in_a_block_is_told_as_one(hosts: Hosts, driver: str) -> None:
    """The block sets its connection back at its end, which fails otherwise."""
    hosts.project.revision("r1", None, MAKES.format("t"))
    block = f"with op.get_context().autocommit_block():\n    op.execute('VACUUM t')\n    {SLEEPS}"
    hosts.project.revision("r2", "r1", block)
    hosts.url = hosts.url.replace("+psycopg", f"+{driver}")
    [leader] = hosts.start()
    soon(lambda: hosts.ask(ASLEEP))
    hosts.ask(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()"
    )
    ended = leader.finish()

    assert ended.code == 5, ended.stderr
    message = ended.json["error"]["message"]
    assert "connection to the server was lost" in message
    assert "Revision r2 may be half done. At statement 2 of it: SELECT pg_sleep(?)" in message


class Proxy:
    """A way to a server that can be cut on the client's side alone."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._done = threading.Event()
        self._clients: list[socket.socket] = []
        self._servers: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.05)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def cut(self) -> None:
        for client in self._clients:
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._done.set()
        self._thread.join()
        for one in (self._listener, *self._clients, *self._servers):
            one.close()

    def _accept(self) -> None:
        pumps: list[threading.Thread] = []
        while not self._done.is_set():
            with suppress(TimeoutError):
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
                self._clients.append(client)
                self._servers.append(server)
                for pair in ((client, server), (server, client)):
                    pumps.append(threading.Thread(target=self._pump, args=pair))
                    pumps[-1].start()
        for pump in pumps:
            pump.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        source.settimeout(0.05)
        with suppress(OSError):
            while not self._done.is_set():
                with suppress(TimeoutError):
                    data = source.recv(65536)
                    if not data:
                        return
                    sink.sendall(data)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    proxy = Proxy(shared_postgresql().port)
    yield proxy
    proxy.close()


def test_a_commit_whose_answer_is_lost(tmp_path: Path, zygote: Zygote, proxy: Proxy) -> None:
    """The server goes on with it: what came of it is looked at when it has ended, not before."""
    server = shared_postgresql()
    project = make_project(tmp_path)
    with server.database() as name:
        text = ENV_PY.format(each=False).replace(
            'context.config.get_main_option("sqlalchemy.url")',
            f"{server.url(name).replace(f':{server.port}/', f':{proxy.port}/')!r}",
        )
        assert str(proxy.port) in text
        project.write("migrations/env.py", text)
        project.revision(
            "r1",
            None,
            """
op.execute("CREATE TABLE t (id INTEGER)")
op.execute("CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$")
op.execute("CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED "
    "FOR EACH ROW EXECUTE FUNCTION slow()")
op.execute("INSERT INTO t VALUES (1)")
""",
        )
        hosts = Hosts(project, server.url(name), zygote)
        [leader] = hosts.start()
        with psycopg.connect(server.conninfo(name), autocommit=True) as other:
            committing = (
                "SELECT 1 FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active' "
                "AND datname = current_database()"
            )
            soon(lambda: other.execute(committing).fetchall())
            time.sleep(0.1)
            proxy.cut()
        ended = leader.finish()

        assert ended.code == 5, ended.stderr
        there = hosts.ask("SELECT to_regclass('t') IS NOT NULL")[0][0]
        said = ended.json["error"]["message"]
        assert ("Nothing was changed" in said) is not there, said
        assert there == bool(ended.json["applied"])
