"""What is a MariaDB server's own: ways in, errors in words, its lock and who holds it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from orchestrator.databases import database_of
from orchestrator.databases.base import Database
from orchestrator.databases.mysql import driver
from orchestrator.errors import ConfigurationError, DatabaseUnavailable
from orchestrator.locks.base import Lock
from tests.databases.conftest import connected
from tests.locks.holder import HolderProcess, a_holder
from tests.servers.mariadb import MariaDBServer, galera_node, shared_mariadb

DEADLINE_SECONDS = 60.0


@pytest.fixture(scope="module")
def server() -> MariaDBServer:
    return shared_mariadb()


@pytest.fixture
def name(server: MariaDBServer) -> Iterator[str]:
    with server.database() as name:
        yield name


@pytest.fixture
def url(server: MariaDBServer, name: str) -> str:
    return server.url(name)


def soon(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def lock_of(url: str, warn: Callable[[str], object] = print, *, one_node: bool = False) -> Lock:
    database = database_of(url)
    database.one_node = one_node
    lock = database.lock(a_holder, warn)
    assert lock is not None
    return lock


def test_a_connection_that_is_lost_at_its_end_has_answered(url: str) -> None:
    """What was asked is answered: nothing is waited for at the end, and no error comes of it."""
    database = database_of(url)
    with database.connect() as connection:
        database.look(connection)
        number = database.session(connection)
        with connected(url) as other:
            other.exec_driver_sql(f"KILL {number}")


def unusable(url: str) -> DatabaseUnavailable:
    database = database_of(url)
    with pytest.raises(DatabaseUnavailable) as raised, database.connect():
        pass
    assert "s3cret" not in str(raised.value)
    return raised.value


class TestRefused:
    """Why connecting failed, in words, and whether waiting may help."""

    def test_a_wrong_password(self, url: str) -> None:
        """At once, with where to look."""
        error = unusable(url.replace("s3cret-enough", "wr0ng-enough"))
        assert not error.unreachable
        assert "password in the URL" in str(error)

    def test_no_such_database(self, server: MariaDBServer) -> None:
        """With how it is made."""
        error = unusable(server.url("nowhere"))
        assert not error.unreachable
        assert "CREATE DATABASE" in str(error)

    def test_a_database_without_rights(self, server: MariaDBServer, name: str) -> None:
        """With what an administrator has to grant."""
        server.execute("CREATE USER IF NOT EXISTS low@'%' IDENTIFIED BY 's3cret-enough'")
        error = unusable(server.url(name).replace("//app", "//low"))
        assert not error.unreachable
        assert "GRANT ALL ON" in str(error)

    def test_a_version_table_without_rights(self, server: MariaDBServer, name: str) -> None:
        """It is not taken for one that is not there."""
        server.execute("CREATE TABLE alembic_version (version_num VARCHAR(32))", name)
        server.execute("CREATE TABLE other (id INTEGER)", name)
        server.execute("CREATE OR REPLACE USER few@'%' IDENTIFIED BY 's3cret-enough'")
        server.execute(f"GRANT SELECT ON {name}.other TO few@'%'")
        database = database_of(server.url(name).replace("//app", "//few"))
        with (
            pytest.raises(DatabaseUnavailable, match="may not read the version table"),
            database.connect() as connection,
        ):
            database.version_rows(connection, "alembic_version", None)

    @pytest.mark.parametrize("host", ["127.0.0.1:1", "nowhere.invalid"])
    def test_who_does_not_answer_is_waited_for(self, host: str) -> None:
        """A port that nobody listens at, a name that nobody knows."""
        error = unusable(f"mysql+pymysql://u:s3cret-enough@{host}/d")
        assert error.unreachable
        assert error.reason == "the server does not answer"

    def test_a_full_server_is_waited_for(self, server: MariaDBServer, url: str) -> None:
        """Somebody will leave."""
        server.execute("SET GLOBAL max_connections = 10")
        kept: list[Any] = []

        def fill() -> None:
            for _ in range(20):
                connection = database_of(url).connect()
                connection.__enter__()
                kept.append(connection)

        try:
            with pytest.raises(DatabaseUnavailable) as raised:
                fill()
        finally:
            for connection in kept:
                connection.__exit__(None, None, None)
            soon(lambda: _can_set(server))
        assert raised.value.unreachable
        assert raised.value.reason == "the server has no connection left"

    def test_a_url_without_a_database(self) -> None:
        """Nothing could be locked by its name."""
        with pytest.raises(ConfigurationError, match="no database of it"):
            database_of("mysql+pymysql://u:s3cret-enough@h/")


def _can_set(server: MariaDBServer) -> bool:
    import pymysql

    try:
        server.execute("SET GLOBAL max_connections = 200")
    except pymysql.err.OperationalError:
        return False
    return True


class TestOwnDriver:
    """PyMySQL, or mysqlclient."""

    def test_none_is_told_with_what_to_type(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the application's own driver is there."""
        monkeypatch.setattr(driver.importlib.util, "find_spec", lambda _: None)
        driver.driver.cache_clear()
        try:
            with pytest.raises(ConfigurationError, match="pip install pymysql"):
                database_of("mysql+asyncmy://u@h/d")
        finally:
            driver.driver.cache_clear()

    def test_what_only_another_takes_is_left_out(self, server: MariaDBServer, name: str) -> None:
        """Of the parameters of a URL."""
        url = server.url(name, "mysql+asyncmy") + "?charset=utf8mb4&echo=1&minsize=3"
        with database_of(url).connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1

    def test_a_parameter_that_it_cannot_take(self, url: str) -> None:
        """In words, not as a traceback."""
        database = database_of(url + "?nonsense=1")
        with pytest.raises(ConfigurationError, match="has a parameter"), database.connect():
            pass


class TestLost:
    """A connection that the server has ended."""

    @pytest.fixture
    def database(self, url: str) -> Database:
        return database_of(url)

    def test_is_worth_waiting_for(self, server: MariaDBServer, database: Database) -> None:
        """It may come back."""
        with pytest.raises(DatabaseUnavailable) as raised, killed(server, database) as connection:
            database.look(connection)
        assert raised.value.unreachable

    @pytest.mark.parametrize("name_of_driver", ["pymysql", "asyncmy", "aiomysql"])
    def test_of_any_driver(
        self, server: MariaDBServer, name: str, database: Database, name_of_driver: str
    ) -> None:
        """As `env.py` may have it."""
        import asyncio

        import sqlalchemy as sa
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.ext.asyncio import create_async_engine

        url = server.url(name, f"mysql+{name_of_driver}")
        ask = "SELECT connection_id()"

        async def lose() -> BaseException:
            engine = create_async_engine(url, poolclass=sa.NullPool)
            async with engine.connect() as connection:
                number = (await connection.exec_driver_sql(ask)).scalar()
                server.execute(f"KILL {number}")
                with pytest.raises(DBAPIError) as raised:
                    await connection.exec_driver_sql("SELECT 1")
                return raised.value

        if name_of_driver == "pymysql":
            with connected(url) as connection:
                server.execute(f"KILL {connection.exec_driver_sql(ask).scalar()}")
                with pytest.raises(DBAPIError) as raised:
                    connection.exec_driver_sql("SELECT 1")
                error: BaseException = raised.value
        else:
            error = asyncio.run(lose())
        explained = database.explain(error)
        assert explained is not None
        assert explained.unreachable


def killed(server: MariaDBServer, database: Database) -> Any:
    from contextlib import contextmanager

    @contextmanager
    def killed() -> Iterator[Any]:
        with database.connect() as connection:
            server.execute(f"KILL {database.session(connection)}")
            yield connection

    return killed()


class TestLock:
    """`GET_LOCK`, and who holds it."""

    def test_who_holds_it_is_told(self, url: str) -> None:
        """All of it, when it has been held for as long as somebody would wait for it."""
        holder, waiter = lock_of(url), lock_of(url)
        assert holder.try_acquire()
        assert not waiter.try_acquire()
        told = soon(waiter.seen_holder)
        assert (told.run_id, told.pid, told.release) == (
            a_holder().run_id,
            a_holder().pid,
            "1.2/3 */",
        )
        with database_of(url).connect() as connection:
            assert database_of(url).leader(connection) == (True, told)
        holder.release()
        assert waiter.try_acquire()
        waiter.release()
        with database_of(url).connect() as connection:
            assert database_of(url).leader(connection) == (False, None)

    def test_nothing_of_it_is_left(self, server: MariaDBServer, url: str, name: str) -> None:
        """Nor of the session that tells of it."""
        holder, waiter = lock_of(url), lock_of(url)
        assert holder.try_acquire()
        assert not waiter.try_acquire()
        soon(waiter.seen_holder)
        for lock in (holder, waiter):
            lock.release()
        of_it = f"SELECT id FROM information_schema.processlist WHERE db = '{name}'"
        soon(lambda: not server.execute(of_it))

    def test_a_lost_one_is_told(self, server: MariaDBServer, url: str) -> None:
        """Soon, and only once."""
        lost: list[str] = []
        told = threading.Event()

        def warn(message: str) -> None:
            lost.append(message)
            told.set()

        holder = lock_of(url, warn)
        assert holder.try_acquire()
        with database_of(url).connect() as connection:
            held = "SELECT IS_USED_LOCK(CONCAT('orchestrator leader ', SHA1(DATABASE())))"
            number = connection.exec_driver_sql(held).scalar_one()
        server.execute(f"KILL {number}")
        assert told.wait(10)
        assert len(lost) == 1
        assert "lock was lost" in lost[0]
        other = lock_of(url)
        assert other.try_acquire()
        other.release()
        holder.release()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
    def test_is_freed_when_its_process_says_nothing(self, url: str, number: signal.Signals) -> None:
        """Killed or stopped: a host that hangs keeps nobody out for long."""
        lock = lock_of(url)
        with HolderProcess("mysql", url) as other:
            assert other.acquire()
            other.signal(number)
            soon(lock.try_acquire)
            lock.release()
            if number == signal.SIGSTOP:
                other.signal(signal.SIGCONT)

    def test_of_another_database_is_another(self, server: MariaDBServer, url: str) -> None:
        """The server has its locks for all of them."""
        with server.database() as other:
            one, two = lock_of(url), lock_of(server.url(other))
            assert one.try_acquire()
            assert two.try_acquire()
            one.release()
            two.release()

    def test_of_a_server_that_can_only_be_read(self, server: MariaDBServer, url: str) -> None:
        """Nothing can be migrated on a replica."""
        server.execute("SET GLOBAL read_only = 1")
        try:
            with pytest.raises(ConfigurationError, match="read_only") as raised:
                lock_of(url).try_acquire()
        finally:
            server.execute("SET GLOBAL read_only = 0")
        assert raised.value.denied

    def test_of_a_cluster_whose_nodes_do_not_share_it(self) -> None:
        """It would keep nobody out, unless all reach the same node: that has to be said."""
        server = galera_node()
        try:
            with server.database() as name:
                url = server.url(name)
                with pytest.raises(
                    ConfigurationError, match="is a node of a Galera cluster"
                ) as raised:
                    lock_of(url).try_acquire()
                assert raised.value.setting == "galera"
                assert "--set galera=one-node" in str(raised.value)
                lock = lock_of(url, one_node=True)
                assert lock.try_acquire()
                assert not lock_of(url, one_node=True).try_acquire()
                lock.release()
        finally:
            server.stop()
