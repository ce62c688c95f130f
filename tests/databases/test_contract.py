"""What every kind of database promises at the seam; each is tried by the same tests."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import DBAPIError

from orchestrator.databases import database_of
from orchestrator.errors import DatabaseUnavailable
from orchestrator.results import Holder
from tests.databases.conftest import Place


def make(connection: Connection, table: str, *versions: str) -> None:
    connection.exec_driver_sql(f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL)")
    for version in versions:
        connection.execute(sa.text(f"INSERT INTO {table} VALUES (:version)"), {"version": version})
    connection.commit()


class TestIdentity:
    """Which URLs name the same database."""

    def test_every_spelling_has_one(self, place: Place) -> None:
        """Driver, parameters and links do not make another database of it."""
        identities = {database_of(url).identity for url in (place.url, *place.spellings)}

        assert identities == {place.database.identity}
        assert database_of(place.other).identity != place.database.identity

    def test_it_holds_no_password(self, place: Place) -> None:
        """It stands in files, and is the same whoever connects."""
        assert "s3cret" not in place.database.identity
        assert "s3cret" not in place.database.shown_url

    def test_it_is_told_of_a_connection(self, place: Place) -> None:
        """`env.py` may spell it in its own way, and may have another one."""
        synchronous = [url for url in place.spellings if not make_url(url).get_dialect().is_async]
        for url in (place.url, *synchronous):
            with place.connect(url) as connection:
                assert place.database.same_as(connection)
        with place.connect(place.other) as connection:
            assert not place.database.same_as(connection)

    def test_our_own_driver_is_synchronous(self, place: Place) -> None:
        """Whatever the application's is; the rest of the URL stays."""
        for url in (place.url, *place.spellings):
            made = database_of(url)
            assert not made.synchronous_url.get_dialect().is_async
            assert made.synchronous_url.set(drivername="x") == made.url.set(drivername="x")


class TestConnecting:
    """Connections of our own."""

    def test_making_a_database_connects_to_nothing(self, place: Place) -> None:
        """An object of a database that cannot be used is made without an error."""
        assert database_of(place.unusable).shown_url

    def test_what_is_done_is_done_at_once(self, place: Place) -> None:
        """The connection is in autocommit: it holds nothing that somebody would wait for."""
        with place.database.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE t (id INTEGER)")
            connection.exec_driver_sql("INSERT INTO t VALUES (1)")
            with place.connect() as other:
                assert other.exec_driver_sql("SELECT count(*) FROM t").scalar() == 1

    def test_what_cannot_be_used_is_told(self, place: Place) -> None:
        """In words, at once, with the URL, without its password; waiting would not help."""
        unusable = database_of(place.unusable)

        with pytest.raises(DatabaseUnavailable) as raised, unusable.connect() as connection:
            connection.exec_driver_sql("SELECT 1 FROM t")

        assert not raised.value.busy
        assert raised.value.url == unusable.shown_url
        assert unusable.shown_url in str(raised.value)
        assert "s3cret" not in str(raised.value)

    def test_another_error_is_not_explained(self, place: Place) -> None:
        """A wrong statement says nothing about whether the database can be used."""
        with place.connect() as connection, pytest.raises(DBAPIError) as raised:
            connection.exec_driver_sql("SELECT nothing FROM nowhere")

        assert place.database.explain(raised.value) is None
        assert place.database.explain(ValueError("x")) is None


class TestVersionRows:
    """The question that a warm start and a proof ask."""

    def ask(self, place: Place) -> object:
        with place.database.connect() as connection:
            return place.database.version_rows(connection, "alembic_version", None)

    def test_no_table_is_not_an_empty_one(self, place: Place) -> None:
        """None where there is no such table, an empty tuple where it holds no row."""
        assert self.ask(place) is None
        with place.connect() as connection:
            make(connection, "alembic_version")
        assert self.ask(place) == ()

    def test_they_come_sorted(self, place: Place) -> None:
        """Several heads are the same tuple in whatever order they stand."""
        with place.connect() as connection:
            make(connection, "alembic_version", "b", "a", "c")
        assert self.ask(place) == ("a", "b", "c")

    @pytest.mark.parametrize(
        "name", ["alembic_version", "Mixed Case", 'with"quote', "select", "per%cent", "semi;colon"]
    )
    @pytest.mark.parametrize("schema", [None, "other"])
    def test_any_name_and_schema_is_quoted(
        self, place: Place, name: str, schema: str | None
    ) -> None:
        """A version table of whatever name is found in its schema, and in no other."""
        with place.database.connect() as connection:
            place.attach(connection)
            quoted = connection.dialect.identifier_preparer.quote_identifier(name)
            quoted = quoted.replace("%%", "%")  # what a parameter's would be, text() does itself
            where = f"{schema}.{quoted}" if schema else quoted
            for statement in ("CREATE TABLE {} (version_num TEXT)", "INSERT INTO {} VALUES ('r1')"):
                connection.execute(sa.text(statement.format(where)))

            assert place.database.version_rows(connection, name, schema) == ("r1",)
            elsewhere = place.default_schema if schema else "other"
            assert place.database.version_rows(connection, name, elsewhere) is None

    def test_a_table_of_another_kind_is_neither(self, place: Place) -> None:
        """A table of that name without the column is an error, not an empty table."""
        with place.connect() as connection:
            connection.exec_driver_sql("CREATE TABLE alembic_version (id INTEGER)")
            connection.commit()
        with pytest.raises((DBAPIError, DatabaseUnavailable)):
            self.ask(place)


class TestTables:
    """What makes a database one with tables."""

    def test_those_that_count(self, place: Place) -> None:
        """All but the version table and the database's own; the version table's schema, too."""
        with place.connect() as connection:
            place.attach(connection)
            make(connection, "alembic_version")
            connection.exec_driver_sql("CREATE TABLE b (id INTEGER PRIMARY KEY)")
            connection.exec_driver_sql("CREATE TABLE a (id INTEGER)")
            connection.exec_driver_sql("CREATE TABLE other.c (id INTEGER)")

            assert place.database.tables(connection, "alembic_version", None) == ("a", "b")
            with_schema = place.database.tables(connection, "alembic_version", "other")
            assert with_schema == ("a", "b", "c")

    def test_an_empty_database_has_none(self, place: Place) -> None:
        """Nor is the default schema hidden from others."""
        with place.connect() as connection:
            assert place.database.tables(connection, "alembic_version", None) == ()
        assert place.database.shares(None)


class TestExistence:
    """What is there, and what has to be made."""

    def test_what_is_there_exists(self, place: Place) -> None:
        """Also when it cannot be used; preparing it changes nothing."""
        place.database.prepare()
        assert place.database.exists()
        assert database_of(place.unusable).exists()

    def test_what_connecting_would_make_is_told(self, place: Place) -> None:
        """A database that is there is not made by connecting."""
        kind = type(place.database)
        for url in (place.url, place.other):
            made = database_of(url)
            dialect = made.synchronous_url.get_dialect()()
            arguments, parameters = dialect.create_connect_args(made.synchronous_url)
            would_make = kind.made_by(dialect, arguments, parameters)
            assert (would_make is None) is made.exists()
            if isinstance(would_make, URL):
                assert kind(would_make).identity == made.identity


def test_its_lock_is_not_held(place: Place) -> None:
    """A kind has a lock of its own or none; whoever makes one holds nothing yet."""
    holder = Holder(run_id="r", host="h", pid=1, command="run", since=datetime.now(UTC))

    for _ in range(2):
        lock = place.database.lock(lambda: holder, print)
        assert lock is None or not lock.quick, "a server is asked in a thread"
