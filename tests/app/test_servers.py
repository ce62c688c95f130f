"""The same application on a server, by its URL alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from asgi_lifespan import LifespanManager

from app.main import create_app
from tests.app.conftest import Catalogue
from tests.servers.mariadb import shared_mariadb
from tests.servers.postgresql import shared_postgresql

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def served(url: str) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(url)
    async with LifespanManager(app, startup_timeout=60) as manager:
        transport = httpx.ASGITransport(app=manager.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client


@pytest.mark.parametrize("driver", ["postgresql+asyncpg", "mysql+aiomysql"])
async def test_it_serves_on_a_server(driver: str) -> None:
    """A new database is made and stamped; rows, totals, conflicts and cascades are the same."""
    server = shared_mariadb() if driver.startswith("mysql") else shared_postgresql()
    with server.database() as name:
        url = server.url(name, driver)
        async with served(url) as client:
            health = (await client.get("/health")).json()
            assert (health["versions"], health["led"]) == (["0003"], True)
            catalogue = Catalogue(client)
            track = await catalogue.track(duration_seconds=120)
            album = track["album_id"]
            detail = (await client.get(f"/albums/{album}")).json()
            assert detail["total_seconds"] == 120
            again = await client.post(
                "/tracks",
                json={
                    "album_id": album,
                    "position": track["position"],
                    "title": "twice",
                    "duration_seconds": 1,
                },
            )
            assert again.status_code == 409, again.text
            assert "already has a track" in again.text
            nobody = await client.post("/albums", json={"artist_id": 999, "title": "x"})
            assert (nobody.status_code, nobody.json()["detail"]) == (409, "there is no artist 999")
            gone = await client.delete(f"/artists/{detail['artist']['id']}")
            assert gone.status_code == 204
            assert (await client.get(f"/tracks/{track['id']}")).status_code == 404
        async with served(url) as client:
            assert (await client.get("/health")).json()["led"] is False
