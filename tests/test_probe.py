"""What the probe sees of a database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from orchestrator import probe


@pytest.fixture
def connection() -> Iterator[Connection]:
    """An empty database, with a second one attached as the schema `other`."""
    engine = sa.create_engine("sqlite://", poolclass=StaticPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("ATTACH ':memory:' AS other")
        connection.commit()
        yield connection
    engine.dispose()


def make(connection: Connection, table: str, *versions: str) -> None:
    connection.exec_driver_sql(f"CREATE TABLE {table} (version_num VARCHAR(32) NOT NULL)")
    for version in versions:
        connection.exec_driver_sql(f"INSERT INTO {table} VALUES (?)", (version,))
    connection.commit()


def test_no_version_table_is_not_an_empty_one(connection: Connection) -> None:
    """None where there is no such table, an empty tuple where it holds no row."""
    assert probe.version_rows(connection, "alembic_version", None) is None
    make(connection, "alembic_version")
    assert probe.version_rows(connection, "alembic_version", None) == ()


def test_the_rows_come_sorted(connection: Connection) -> None:
    """Several heads are the same tuple in whatever order they stand."""
    make(connection, "alembic_version", "b", "a", "c")
    assert probe.version_rows(connection, "alembic_version", None) == ("a", "b", "c")


@pytest.mark.parametrize(
    "name", ["alembic_version", "Mixed Case", 'with"quote', "select", "per%cent", "semi;colon"]
)
@pytest.mark.parametrize("schema", [None, "main", "other"])
def test_any_name_and_schema_is_quoted(
    connection: Connection, name: str, schema: str | None
) -> None:
    """A version table of whatever name is found in its schema, and in no other."""
    quoted = '"' + name.replace('"', '""') + '"'
    make(connection, f"{schema or 'main'}.{quoted}", "r1")
    assert probe.version_rows(connection, name, schema) == ("r1",)
    elsewhere = "main" if schema == "other" else "other"
    assert probe.version_rows(connection, name, elsewhere) is None


def test_a_table_that_is_no_version_table_is_an_error(connection: Connection) -> None:
    """A table of that name without the column is neither absent nor empty."""
    connection.exec_driver_sql("CREATE TABLE alembic_version (id INTEGER)")
    connection.commit()
    with pytest.raises(DBAPIError):
        probe.version_rows(connection, "alembic_version", None)


def test_the_tables_that_count(connection: Connection) -> None:
    """All but the version table and SQLite's own; the version table's schema counts, too."""
    make(connection, "alembic_version")
    connection.exec_driver_sql("CREATE TABLE b (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.exec_driver_sql("CREATE TABLE a (id INTEGER)")
    connection.exec_driver_sql("CREATE TABLE other.c (id INTEGER)")
    connection.commit()
    assert probe.tables(connection, "alembic_version", None) == ("a", "b")
    assert probe.tables(connection, "alembic_version", "other") == ("a", "b", "c")
