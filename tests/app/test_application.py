"""The application as a whole: how it starts, and whose database it uses."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.database import CatalogueDatabase
from app.main import create_app

pytestmark = pytest.mark.anyio


async def test_the_first_start_leads_and_the_second_finds_the_work_done(
    serve: Any, database_url: str
) -> None:
    """Of two starts on one database the first migrates; both serve on the same versions."""
    async with serve(database_url) as client:
        first = (await client.get("/health")).json()
    async with serve(database_url) as client:
        second = (await client.get("/health")).json()

    assert (first["led"], second["led"]) == (True, False)
    assert first["versions"] == second["versions"] != []


def test_building_an_application_touches_no_database(
    database_url: str, database_file: Path
) -> None:
    """A database exists only once the application has started."""
    create_app(database_url)

    assert not database_file.exists()


async def test_applications_that_follow_one_another_do_not_share_rows(
    serve: Any, tmp_path: Path
) -> None:
    """The models follow the application that is running, from one database file to the next."""
    for name in ("first.db", "second.db"):
        async with serve(f"sqlite:///{tmp_path / name}") as client:
            await client.post("/artists", json={"name": name})

    for name in ("first.db", "second.db"):
        async with serve(f"sqlite:///{tmp_path / name}") as client:
            rows = (await client.get("/artists")).json()["items"]
            assert [row["name"] for row in rows] == [name]


async def test_two_applications_at_once_are_refused(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    """While one application runs, a second database of the same process does not connect."""
    second = CatalogueDatabase(f"sqlite:///{tmp_path / 'second.db'}")

    with pytest.raises(RuntimeError, match="another application"):
        await second.connect()

    assert not second.is_connected
    assert (await client.post("/artists", json={"name": "Nina Simone"})).status_code == 201


async def test_foreign_keys_are_enforced_on_every_connection(database_url: str) -> None:
    """A connection of the application has the enforcement that SQLite leaves off by default."""
    async with CatalogueDatabase(database_url) as database:
        assert await database.fetch_val("PRAGMA foreign_keys") == 1
        async with database.transaction():
            assert await database.fetch_val("PRAGMA foreign_keys") == 1


async def test_the_interface_describes_itself(client: httpx.AsyncClient) -> None:
    """The OpenAPI document covers every resource and is the same at each start."""
    described = (await client.get("/openapi.json")).json()

    assert {path.split("/")[1] for path in described["paths"]} == {
        "health",
        "artists",
        "albums",
        "tracks",
    }
    assert described == create_app("sqlite:///unused.db").openapi()


async def test_rows_outlive_the_application(
    serve: Any, database_url: str, database_file: Path
) -> None:
    """What a client created is in the file after the application has stopped."""
    async with serve(database_url) as client:
        await client.post("/artists", json={"name": "Nina Simone"})

    connection = sqlite3.connect(database_file)
    try:
        assert connection.execute("SELECT name FROM artists").fetchall() == [("Nina Simone",)]
    finally:
        connection.close()
