"""The application's migrations: every way to a schema ends in the same one, and keeps the rows."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from app.models import metadata
from orchestrator import Orchestrator, Settings

pytestmark = pytest.mark.anyio

REVISIONS = ["base", "0001", "0002", "0003"]


def orchestrator_of(database_url: str, bootstrap: str = "upgrade") -> Orchestrator:
    """Return an orchestrator of the application's migrations on another database."""
    return Orchestrator(
        Settings(database_url=database_url, script_location="app:migrations", bootstrap=bootstrap)
    )


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """Open a database as the application does, with foreign keys enforced."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        yield connection


def schema(file: Path) -> dict[str, Any]:
    """Return all that SQLite knows about each table, and the names that only its SQL text knows."""
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", poolclass=sqlalchemy.NullPool)
    inspector = sqlalchemy.inspect(engine)
    with opened(file) as connection:

        def pragma(name: str, argument: str) -> list[Any]:
            return connection.execute(f"PRAGMA {name}('{argument}')").fetchall()

        return {
            table: {
                "columns": pragma("table_info", table),
                "foreign_keys": pragma("foreign_key_list", table),
                "indexes": {
                    index[1]: (index, pragma("index_info", index[1]))
                    for index in pragma("index_list", table)
                },
                "names": (
                    inspector.get_pk_constraint(table),
                    inspector.get_foreign_keys(table),
                    inspector.get_unique_constraints(table),
                ),
            }
            for table in inspector.get_table_names()
        }


def differences(file: Path) -> list[Any]:
    """Return what autogenerate would do to the database, types and server defaults included."""
    engine = sqlalchemy.create_engine(f"sqlite:///{file}", poolclass=sqlalchemy.NullPool)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        found: list[Any] = compare_metadata(context, metadata)
        return found


ROWS_OF_THE_FIRST_RELEASE = """
    INSERT INTO artists (id, name) VALUES (1, 'Nina Simone'), (2, 'John Coltrane');
    INSERT INTO albums (id, artist_id, title, year) VALUES
        (1, 1, 'Pastel Blues', 1965), (2, 2, 'Giant Steps', NULL), (3, 2, 'Demos', 1957);
    INSERT INTO tracks (id, album_id, position, title, duration_seconds) VALUES
        (1, 1, 1, 'Be My Husband', 202), (2, 1, 9, 'Sinnerman', 622), (3, 2, 1, 'Naima', 261);
"""
TABLES = ("artists", "albums", "tracks")


def rows(file: Path) -> dict[str, list[Any]]:
    """Return the rows of every table, without the column that the last revision adds."""
    with opened(file) as connection:
        return {
            "artists": connection.execute("SELECT id, name FROM artists").fetchall(),
            "albums": connection.execute(
                "SELECT id, artist_id, title, year FROM albums"
            ).fetchall(),
            "tracks": connection.execute("SELECT * FROM tracks").fetchall(),
        }


async def test_creating_and_upgrading_lead_to_one_schema(tmp_path: Path) -> None:
    """A database made from the metadata is the one that the revisions make, to every name."""
    created, upgraded = tmp_path / "created.db", tmp_path / "upgraded.db"

    await orchestrator_of(f"sqlite:///{created}", bootstrap="create").run()
    await orchestrator_of(f"sqlite:///{upgraded}").run()

    assert set(schema(created)) == {"alembic_version", *TABLES}
    assert schema(created) == schema(upgraded)


@pytest.mark.parametrize("bootstrap", ["create", "upgrade"])
async def test_autogenerate_finds_nothing_to_do(
    database_url: str, database_file: Path, bootstrap: str
) -> None:
    """The models say what is in a database at head, whichever way it came there."""
    await orchestrator_of(database_url, bootstrap).run()

    assert differences(database_file) == []


async def test_autogenerate_would_find_something(database_url: str, database_file: Path) -> None:
    """One revision before head the comparison sees exactly the column that is missing."""
    await orchestrator_of(database_url).upgrade("0002")

    assert [(kind, column.name) for kind, _, _, column in differences(database_file)] == [
        ("add_column", "total_seconds")
    ]


@pytest.mark.parametrize(("before", "after"), list(pairwise(REVISIONS)))
async def test_each_downgrade_undoes_its_upgrade(
    database_url: str, database_file: Path, before: str, after: str
) -> None:
    """Down from a revision the schema is the one before it, and up again the one after it."""
    orchestrator = orchestrator_of(database_url)
    await orchestrator.upgrade("0001")
    await orchestrator.downgrade("base")
    if before != "base":
        await orchestrator.upgrade(before)
    schema_before = schema(database_file)
    await orchestrator.upgrade(after)
    schema_after = schema(database_file)

    await orchestrator.downgrade(before)
    assert schema(database_file) == schema_before
    await orchestrator.upgrade(after)
    assert schema(database_file) == schema_after != schema_before


async def test_no_row_is_lost_on_the_way_up_and_down(
    database_url: str, database_file: Path
) -> None:
    """The rows of the first release are the same at head, and the same after the way back."""
    orchestrator = orchestrator_of(database_url)
    await orchestrator.upgrade("0001")
    with opened(database_file) as connection:
        connection.executescript(ROWS_OF_THE_FIRST_RELEASE)
    before = rows(database_file)
    assert [len(before[table]) for table in TABLES] == [2, 3, 3]

    await orchestrator.upgrade("heads")
    assert rows(database_file) == before
    await orchestrator.downgrade("0001")
    assert rows(database_file) == before


async def test_totals_are_filled_for_albums_that_existed_before(
    database_url: str, database_file: Path
) -> None:
    """After the data migration each old album's total is the sum of its tracks, or 0."""
    orchestrator = orchestrator_of(database_url)
    await orchestrator.upgrade("0002")
    with opened(database_file) as connection:
        connection.executescript(ROWS_OF_THE_FIRST_RELEASE)

    await orchestrator.upgrade("heads")

    with opened(database_file) as connection:
        totals = connection.execute("SELECT id, total_seconds FROM albums").fetchall()
    assert totals == [(1, 824), (2, 261), (3, 0)]


async def test_the_release_before_can_go_on_adding_albums(
    database_url: str, database_file: Path
) -> None:
    """At head, an album is accepted from a worker that does not know of totals."""
    await orchestrator_of(database_url).run()

    with opened(database_file) as connection:
        connection.executescript(ROWS_OF_THE_FIRST_RELEASE)
        assert connection.execute("SELECT DISTINCT total_seconds FROM albums").fetchall() == [(0,)]


async def test_deletes_do_not_cascade_before_the_second_revision(
    database_url: str, database_file: Path
) -> None:
    """In the first schema an artist with albums cannot be deleted: the revision has a purpose."""
    await orchestrator_of(database_url).upgrade("0001")

    with opened(database_file) as connection:
        connection.executescript(ROWS_OF_THE_FIRST_RELEASE)
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            connection.execute("DELETE FROM artists WHERE id = 1")


async def test_deletes_cascade_in_a_migrated_database(
    serve: Any, database_url: str, database_file: Path
) -> None:
    """The application deletes an old artist together with its albums and tracks, and no others."""
    await orchestrator_of(database_url).upgrade("0001")
    with opened(database_file) as connection:
        connection.executescript(ROWS_OF_THE_FIRST_RELEASE)

    async with serve(database_url) as client:
        assert (await client.get("/albums/1")).json()["total_seconds"] == 824
        assert (await client.delete("/artists/2")).status_code == 204

    left = rows(database_file)
    assert [[row[0] for row in left[table]] for table in TABLES] == [[1], [1], [1, 2]]


async def test_the_way_down_to_base_and_up_again(database_url: str, database_file: Path) -> None:
    """At base no table of the application is left, and from there head is reached again."""
    orchestrator = orchestrator_of(database_url)
    await orchestrator.upgrade("heads")
    head = schema(database_file)

    await orchestrator.downgrade("base")
    assert set(schema(database_file)) == {"alembic_version"}

    await orchestrator.upgrade("heads")
    assert schema(database_file) == head
