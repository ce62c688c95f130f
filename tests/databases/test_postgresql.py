"""What is PostgreSQL's own: spellings, what cannot be used, schemas, indexes, replicas."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from orchestrator.databases import database_of
from orchestrator.databases.base import Database
from orchestrator.databases.postgresql import driver
from orchestrator.databases.postgresql.driver import own_url
from orchestrator.databases.postgresql.holder import FENCE, LEADER, NAMESPACE
from orchestrator.databases.postgresql.watchdog import WATCHDOG
from orchestrator.errors import ConfigurationError, DatabaseUnavailable
from tests.databases.conftest import connected
from tests.locks.holder import a_holder
from tests.servers.postgresql import PostgreSQLServer, shared_postgresql


@pytest.fixture(scope="module")
def server() -> PostgreSQLServer:
    return shared_postgresql()


@pytest.fixture
def url(server: PostgreSQLServer) -> Iterator[str]:
    """The URL of an empty database."""
    with server.database() as name:
        yield server.url(name)


def identity(url: str) -> str:
    return database_of(url).identity


class TestIdentity:
    """One text for each database, as far as its URL tells."""

    def test_where_the_host_stands_makes_no_difference(self) -> None:
        """In the middle, or in the query; with the default port or without; in capitals."""
        wanted = "postgresql:db.example:5432/app"
        for text in (
            "postgresql://u:p@db.example/app",
            "postgres://u:p@DB.example:5432/app",
            "postgresql://u:other@/app?host=db.example",
            "postgresql+asyncpg://v@db.example/app?ssl=require",
            "postgresql://u@/app?host=db.example&port=5432",
        ):
            assert identity(text) == wanted

    def test_several_hosts(self) -> None:
        """In whatever order they are named."""
        one = identity("postgresql://u@/app?host=a:1&host=b:2")
        assert one == identity("postgresql://u@/app?host=b:2&host=a:1") == "postgresql:a:1,b:2/app"

    def test_what_libpq_takes_from_elsewhere(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Sockets, a service, variables; and the user's name for a database without one."""
        assert identity("postgresql://me@/?host=/run/pg") == "postgresql:/run/pg:5432/me"
        assert "service=prod" in identity("postgresql:///?service=prod")
        monkeypatch.setenv("PGHOST", "there")
        monkeypatch.setenv("PGPORT", "6")
        monkeypatch.setenv("PGDATABASE", "app")
        assert identity("postgresql://") == "postgresql:there:6/app"


class TestOwnDriver:
    """The same database by psycopg, with parameters as libpq has them."""

    def test_what_asyncpg_calls_otherwise(self) -> None:
        """SSL and the time limit are passed on; its caches are none of libpq's business."""
        own = own_url(
            make_url(
                "postgresql+asyncpg://u:p@h/d?ssl=verify-full&timeout=3"
                "&prepared_statement_cache_size=0"
            )
        )
        assert own.drivername == "postgresql+psycopg"
        assert dict(own.query) == {"sslmode": "verify-full", "connect_timeout": "3"}
        assert own.password == "p"

    @pytest.mark.parametrize("name", ["psycopg", "psycopg2"])
    def test_either_will_do(self, url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """psycopg2 where there is no psycopg: what is asked, and what is refused, is the same."""
        monkeypatch.setattr(driver, "driver", lambda: name)
        database = database_of(url)
        with database.connect() as connection:
            assert type(connection.connection.dbapi_connection).__module__.startswith(name)
            assert database.version_rows(connection, "alembic_version", None) is None
            assert database.tables(connection, "alembic_version", None) == ()
            assert database.default_schema(connection, "alembic_version") == "public"
        lock = database.lock(a_holder, print)
        assert lock is not None
        assert lock.try_acquire()
        lock.release()
        assert "CREATE DATABASE" in str(unusable(url + "x"))

    def test_none_is_told_with_what_to_type(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the application's own driver is there."""
        monkeypatch.setattr(driver.importlib.util, "find_spec", lambda _: None)
        driver.driver.cache_clear()
        try:
            with pytest.raises(ConfigurationError, match=r"pip install .psycopg\[binary\]"):
                database_of("postgresql+asyncpg://u@h/d")
        finally:
            driver.driver.cache_clear()

    def test_one_round_trip_after_the_greeting(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SQLAlchemy's first connect would send a dozen; a warm start sends its question."""
        sent: list[str] = []
        execute = psycopg.Cursor.execute

        def recorded(self: psycopg.Cursor, query: str, *rest: object, **more: object) -> object:
            sent.append(query)
            return execute(self, query, *rest, **more)

        monkeypatch.setattr(psycopg.Cursor, "execute", recorded)
        database = database_of(url)
        with database.connect() as connection:
            database.version_rows(connection, "alembic_version", "public")
        assert len(sent) == 1


class TestWaysIn:
    """What libpq knows beside the URL, and how else a server can be named."""

    def reached(self, url: str) -> str:
        with database_of(url).connect() as connection:
            return str(connection.exec_driver_sql("SELECT current_database()").scalar_one())

    def test_several_hosts(self, url: str, server: PostgreSQLServer) -> None:
        """The first that answers."""
        name = url.rpartition("/")[2]
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            several = f"postgresql://postgres@/{name}?host=127.0.0.1:{port}&host=127.0.0.1:"
            assert self.reached(f"{several}{server.port}") == name

    def test_a_service(
        self, url: str, server: PostgreSQLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of a service file: host, port and user are known to that alone."""
        name = url.rpartition("/")[2]
        file = tmp_path / "services"
        file.write_text(f"[mine]\nhost=127.0.0.1\nport={server.port}\nuser=postgres\n")
        monkeypatch.setenv("PGSERVICEFILE", str(file))
        assert self.reached(f"postgresql:///{name}?service=mine") == name

    def test_a_password_file(
        self, url: str, server: PostgreSQLServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """`.pgpass` has the password, and the URL has none."""
        name = url.rpartition("/")[2]
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute("DROP ROLE IF EXISTS filed")
            connection.execute("CREATE ROLE filed LOGIN PASSWORD 'of-the-file'")
        file = tmp_path / "pgpass"
        file.write_text(f"127.0.0.1:{server.port}:*:filed:of-the-file\n")
        file.chmod(0o600)
        monkeypatch.setenv("PGPASSFILE", str(file))
        with server.demanding_passwords("filed"):
            assert self.reached(f"postgresql://filed@127.0.0.1:{server.port}/{name}") == name

    def test_the_old_name_of_the_scheme(self, url: str) -> None:
        """As platforms write it."""
        old = url.replace("postgresql+psycopg://", "postgres://")
        assert self.reached(old) == url.rpartition("/")[2]


def unusable(url: str) -> DatabaseUnavailable:
    with pytest.raises(DatabaseUnavailable) as raised, database_of(url).connect():
        pass
    assert "s3cret" not in str(raised.value)
    return raised.value


class TestRefused:
    """What keeps out, in words; whether waiting may help is told apart."""

    def test_a_port_that_nobody_listens_at(self) -> None:
        """The server may come."""
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            error = unusable(f"postgresql://u:s3cret-enough@127.0.0.1:{port}/d")
        assert error.unreachable
        assert error.reason == "nobody listens at the server's port"
        assert "see to host and port" in str(error)

    def test_a_name_that_nobody_knows(self) -> None:
        """It may be known in a moment, where containers start."""
        error = unusable("postgresql://u:s3cret-enough@nowhere.invalid/d")
        assert error.unreachable

    def test_no_such_database(self, server: PostgreSQLServer) -> None:
        """At once, with how to make it."""
        error = unusable(server.url("nowhere"))
        assert not error.is_worth_waiting
        assert "CREATE DATABASE" in str(error)

    def test_no_such_user(self, server: PostgreSQLServer) -> None:
        """At once."""
        error = unusable(
            server.url("postgres")
            .replace("postgres:", "somebody:", 1)
            .replace("somebodyql", "postgresql")
        )
        assert not error.is_worth_waiting

    def test_a_wrong_password(self, server: PostgreSQLServer) -> None:
        """At once, without it."""
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE ROLE locked LOGIN PASSWORD 'right'")
        with server.demanding_passwords("locked"):
            error = unusable(f"postgresql://locked:s3cret-enough@127.0.0.1:{server.port}/postgres")
        assert not error.is_worth_waiting
        assert ".pgpass" in str(error)

    def test_no_connection_left(self, server: PostgreSQLServer) -> None:
        """Somebody may leave."""
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            connection.execute("CREATE ROLE crowd LOGIN")
        held: list[psycopg.Connection] = []
        try:
            with suppress(psycopg.OperationalError):
                while True:
                    held.append(psycopg.connect(server.conninfo() + " user=crowd"))
            error = unusable(f"postgresql://crowd:s3cret-enough@127.0.0.1:{server.port}/postgres")
        finally:
            for one in held:
                one.close()
        assert error.unreachable
        assert error.reason == "the server has no connection left"

    def test_a_certificate_that_is_demanded_and_not_there(self, server: PostgreSQLServer) -> None:
        """A server that answers, but not so, will not do so in a moment either."""
        error = unusable(server.url("postgres") + "?sslmode=verify-full")
        assert not error.is_worth_waiting
        assert "sslmode" in str(error)

    def test_a_server_of_another_kind(self) -> None:
        """What says something else is no server of ours."""
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve() -> None:
                for _ in range(10):
                    try:
                        connection, _ = listener.accept()
                    except OSError:
                        return
                    with connection:
                        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            port = listener.getsockname()[1]
            error = unusable(f"postgresql://u:s3cret-enough@127.0.0.1:{port}/d")
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(30)
        assert "cannot be connected to" in str(error)

    def test_one_that_is_too_old(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told by its number; some that only speak the protocol say an old one."""
        monkeypatch.setattr(driver, "OLDEST", 990000)
        with pytest.raises(ConfigurationError, match="99 or newer"), database_of(url).connect():
            pass

    def test_a_connection_that_is_ended(self, url: str) -> None:
        """By an administrator, in mid-work: it may be there again in a moment."""
        database = database_of(url)
        with pytest.raises(DatabaseUnavailable) as raised, database.connect() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        assert raised.value.unreachable
        assert raised.value.reason == "the connection to the server was lost"

    def test_what_asyncpg_leaves_as_the_system_says_it(self, url: str) -> None:
        """A refusal of its own connection is one of the server; of another's it is not."""
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            port = nobody.getsockname()[1]
            with pytest.raises(OSError, match=r"refused|Connect call failed") as refused:
                asyncio.run(asyncpg.connect(host="127.0.0.1", port=port))
        told = database_of(url).explain(refused.value)
        assert told is not None
        assert told.unreachable
        assert database_of(url).explain(ConnectionRefusedError("of a vault")) is None

    def test_a_version_table_without_rights(self, url: str, server: PostgreSQLServer) -> None:
        """It is not taken for one that is not there."""
        with connected(url) as connection:
            connection.exec_driver_sql("CREATE TABLE alembic_version (version_num TEXT)")
            connection.exec_driver_sql("DROP ROLE IF EXISTS stranger")
            connection.exec_driver_sql("CREATE ROLE stranger LOGIN")
            connection.commit()
        database = database_of(url.replace("//postgres:", "//stranger:"))
        told = pytest.raises(DatabaseUnavailable, match="GRANT SELECT")
        with database.connect() as connection, told:
            database.version_rows(connection, "alembic_version", None)


class TestSameServer:
    """Whether a connection of `env.py`'s is to this database: asked of the server."""

    def test_by_another_name(self, url: str) -> None:
        """A name beside an address; another database of the same server is another one."""
        other_name = database_of(url.replace("127.0.0.1", "localhost"))
        with connected(url) as connection:
            assert other_name.identity != database_of(url).identity
            assert other_name.same_as(connection)
        elsewhere = database_of(
            url.rpartition("/")[0].replace("127.0.0.1", "localhost") + "/postgres"
        )
        with connected(url) as connection:
            assert not elsewhere.same_as(connection)

    def test_of_another_kind(self, url: str) -> None:
        """A SQLite file is none."""
        with connected("sqlite://") as connection:
            assert not database_of(url).same_as(connection)


class TestTables:
    """Those that count, found by an own query."""

    def test_partitions_and_foreign_tables(self, url: str) -> None:
        """A partitioned table counts once; views and sequences do not."""
        database = database_of(url)
        with connected(url) as connection:
            for statement in (
                "CREATE TABLE whole (id INT) PARTITION BY RANGE (id)",
                "CREATE TABLE part PARTITION OF whole FOR VALUES FROM (1) TO (9)",
                "CREATE VIEW seen AS SELECT 1",
                "CREATE SEQUENCE counted",
            ):
                connection.exec_driver_sql(statement)
            assert database.tables(connection, "alembic_version", None) == ("whole",)

    def test_tables_of_an_extension(self, url: str) -> None:
        """They came with it, and say nothing about the application."""
        database = database_of(url)
        with connected(url) as connection:
            connection.exec_driver_sql("CREATE TABLE of_extension (id INT)")
            connection.exec_driver_sql("CREATE TABLE own (id INT)")
            connection.exec_driver_sql("ALTER EXTENSION plpgsql ADD TABLE of_extension")
            assert database.tables(connection, "alembic_version", None) == ("own",)

    def test_what_is_lacking(self, url: str) -> None:
        """In any schema, with any name."""
        database = database_of(url)
        with connected(url) as connection:
            connection.exec_driver_sql('CREATE TABLE "Here, too" (id INT)')
            lacking = database.lacking(
                connection, [(None, "Here, too"), ("public", "gone"), ("no_schema", "x")]
            )
        assert lacking == ("public.gone", "no_schema.x")


class TestSchema:
    """Where a connection finds the version table, or would make it."""

    def find(self, database: Database, connection: sa.Connection, path: str) -> str | None:
        connection.exec_driver_sql(f"SET search_path TO {path}")
        return database.default_schema(connection, "alembic_version")

    def test_is_where_it_is(self, url: str) -> None:
        """The first schema that has it; else the first of the path that exists."""
        database = database_of(url)
        with connected(url) as connection:
            connection.exec_driver_sql("CREATE SCHEMA a")
            connection.exec_driver_sql("CREATE TABLE public.alembic_version (version_num TEXT)")
            assert self.find(database, connection, "a, public") == "public"
            assert self.find(database, connection, "a") == "a"
            assert self.find(database, connection, "gone, a") == "a"

    def test_that_is_none(self, url: str) -> None:
        """A search path that leads nowhere is told with what to do."""
        database = database_of(url)
        told = pytest.raises(ConfigurationError, match="leads to no schema that exists: gone")
        with connected(url) as connection, told:
            self.find(database, connection, "gone")


def test_invalid_indexes_are_told(url: str) -> None:
    """By name, with what to do: `IF NOT EXISTS` would skip one for ever."""
    database = database_of(url)
    with database.connect() as connection:
        assert database.defects(connection) == ()
        connection.exec_driver_sql("CREATE TABLE t (id INT)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1), (1)")
        with pytest.raises(sa.exc.IntegrityError):
            connection.exec_driver_sql("CREATE UNIQUE INDEX CONCURRENTLY once ON t (id)")
        [told] = database.defects(connection)
    assert "index public.once of the table t is invalid" in told
    assert 'DROP INDEX CONCURRENTLY "public"."once"' in told


class TestLock:
    """The advisory lock, beyond what every lock promises."""

    def test_tells_who_holds_it(self, url: str) -> None:
        """In full to the same user, by its session's name to everybody."""
        database = database_of(url)
        one, other = database.lock(a_holder, print), database.lock(a_holder, print)
        assert one is not None
        assert other is not None
        try:
            assert one.try_acquire()
            assert not other.try_acquire()
            seen, wanted = other.seen_holder(), a_holder()
            assert seen is not None
            assert (seen.run_id, seen.host, seen.pid) == (wanted.run_id, wanted.host, wanted.pid)
            assert (seen.release, seen.revision) == (wanted.release, wanted.revision)
            with database.connect() as connection:
                connection.exec_driver_sql("DROP ROLE IF EXISTS watcher")
                connection.exec_driver_sql("CREATE ROLE watcher LOGIN")
            stranger = database_of(url.replace("//postgres:", "//watcher:"))
            third = stranger.lock(a_holder, print)
            assert third is not None
            assert not third.try_acquire()
            seen = third.seen_holder()
            third.release()
            assert seen is not None
            assert (seen.run_id, seen.pid, seen.release) == (wanted.run_id, wanted.pid, None)
        finally:
            one.release()
            other.release()

    def test_that_is_lost_is_told_of(self, url: str) -> None:
        """Within a moment, without a round trip: the server's farewell can be read."""
        lost = threading.Event()
        words: list[str] = []

        def tell(message: str) -> None:
            words.append(message)
            lost.set()

        database = database_of(url)
        lock = database.lock(a_holder, tell)
        assert lock is not None
        assert lock.try_acquire()
        with database.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'orchestrator%%'"
            )
        assert lost.wait(30)
        lock.release()
        assert "The server lock was lost while this run works" in words[0]

    def test_a_server_that_goes_is_waited_for(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While others wait, the lock cannot be tried; that is said, and tried again."""
        database = database_of(url)
        holding, lock = database.lock(a_holder, print), database.lock(a_holder, print)
        assert holding is not None
        assert lock is not None
        assert holding.try_acquire()
        assert not lock.try_acquire()
        with database.connect() as connection:
            connection.exec_driver_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'orchestrator%%'"
            )
        assert not lock.try_acquire()
        assert lock.trouble == "the connection to the server was lost"
        holding.release()
        assert lock.try_acquire()
        assert lock.trouble is None
        lock.release()

    def test_of_a_server_that_grants_it_to_all(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is refused by its name: such a lock keeps nobody out."""
        ask = driver.ask

        def generous(connection: object, statement: str, *values: object) -> object:
            found = ask(connection, statement, *values)
            return (True,) if "pg_try_advisory_lock" in statement else found

        monkeypatch.setattr(driver, "ask", generous)
        lock = database_of(url).lock(a_holder, print)
        assert lock is not None
        with pytest.raises(ConfigurationError, match="grants one lock to two"):
            lock.try_acquire()
        lock.release()

    def test_that_is_lost_before_it_is_looked_at(
        self, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A lock that somebody else gets since its session was ended is no fault of the server."""
        database = database_of(url)
        lock = database.lock(a_holder, print)
        assert lock is not None
        ask = driver.ask
        tries: list[object] = []

        def ended(connection: object, statement: str, *values: object) -> object:
            if "pg_try_advisory_lock" in statement:
                tries.append(connection)
                if len(tries) == 2:
                    with database.connect() as other:
                        other.exec_driver_sql(
                            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks "
                            "WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
                        )
            return ask(connection, statement, *values)

        monkeypatch.setattr(driver, "ask", ended)
        assert not lock.try_acquire()
        assert lock.trouble == "the connection to the server was lost"
        assert lock.try_acquire()
        lock.release()

    def test_keys_are_those_that_are_documented(self) -> None:
        """They never change: two releases at once must exclude one another."""
        assert (NAMESPACE, LEADER, FENCE) == (-1187754793, 1, 2)


@contextmanager
def hanging(server: PostgreSQLServer, database: Database) -> Iterator[sa.Connection]:
    """A connection to a server that hangs from now on."""
    with database.connect() as connection:
        server.pause()
        yield connection


class TestTableThatIsLocked:
    """A migration that changes the version table keeps out all who would read it."""

    @pytest.mark.parametrize("name", ["psycopg", "psycopg2"])
    def test_is_waited_for_in_words(
        self, url: str, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a database that is busy; the server is well, and nobody hangs up on it."""
        monkeypatch.setattr(driver, "driver", lambda: name)
        monkeypatch.setattr(WATCHDOG, "seconds", 0.3)
        database = database_of(url)
        with connected(url) as other:
            other.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            other.commit()
            other.exec_driver_sql("LOCK TABLE alembic_version")
            with (
                pytest.raises(DatabaseUnavailable, match="locked the version table") as raised,
                database.connect() as reading,
            ):
                database.version_rows(reading, "alembic_version", None)
            assert (raised.value.busy, raised.value.unreachable) == (True, False)

    @pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
    def test_with_a_limit_of_the_databases_own(self, url: str, setting: str) -> None:
        """It says the same, a little sooner."""
        database = database_of(url)
        name = database.url.database
        with connected(url) as other:
            other.exec_driver_sql(f"ALTER DATABASE {name} SET {setting} = '200ms'")
            other.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32))")
            other.commit()
            other.exec_driver_sql("LOCK TABLE alembic_version")
            with (
                pytest.raises(DatabaseUnavailable, match="locked the version table"),
                database.connect() as reading,
            ):
                database.version_rows(reading, "alembic_version", None)


class TestServerThatHangs:
    """Its host goes on, so that nothing is closed, and it answers nothing."""

    @pytest.fixture
    def server(self) -> Iterator[PostgreSQLServer]:
        server = PostgreSQLServer()
        yield server
        server.go_on()
        server.stop()

    @pytest.mark.parametrize("name", ["psycopg", "psycopg2"])
    def test_is_given_up(
        self, server: PostgreSQLServer, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As a connection that was lost, which is worth waiting for."""
        monkeypatch.setattr(driver, "driver", lambda: name)
        monkeypatch.setattr(WATCHDOG, "lost_seconds", 0.5)
        database = database_of(server.url("postgres"))
        lock = database.lock(a_holder, print)
        assert lock is not None
        assert lock.try_acquire()
        lock.release()
        other = database.lock(a_holder, print)
        assert other is not None
        assert other.try_acquire()
        with pytest.raises(DatabaseUnavailable) as raised, hanging(server, database) as connection:
            database.look(connection)
        assert raised.value.unreachable
        other.release()  # waits for nobody either
        server.go_on()
        with database.connect() as connection:
            database.look(connection)
