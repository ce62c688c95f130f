"""Each test has a database file of its own, served by the application's real lifespan."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import factory
import httpx
import pytest
from asgi_lifespan import LifespanManager

from app.main import create_app

Serve = Callable[[str], AbstractAsyncContextManager[httpx.AsyncClient]]


class ArtistPayload(factory.DictFactory):
    """What a client sends to create an artist."""

    name = factory.Faker("name")


class AlbumPayload(factory.DictFactory):
    """What a client sends to create an album, but for its artist."""

    title = factory.Faker("sentence", nb_words=3)
    year = factory.Faker("pyint", min_value=1950, max_value=2020)


class TrackPayload(factory.DictFactory):
    """What a client sends to create a track, but for its album."""

    position = factory.Sequence(lambda number: number % 999 + 1)
    title = factory.Faker("sentence", nb_words=4)
    duration_seconds = factory.Faker("pyint", min_value=30, max_value=600)


class Catalogue:
    """Creates things through the API, as a client does; each method returns the API's answer.

    What is not named is made up, and a parent that is not named is created.
    """

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def artist(self, **fields: Any) -> dict[str, Any]:
        """Create an artist."""
        return await self._create("/artists", ArtistPayload(**fields))

    async def album(self, **fields: Any) -> dict[str, Any]:
        """Create an album."""
        if "artist_id" not in fields:
            fields["artist_id"] = (await self.artist())["id"]
        return await self._create("/albums", AlbumPayload(**fields))

    async def track(self, **fields: Any) -> dict[str, Any]:
        """Create a track."""
        if "album_id" not in fields:
            fields["album_id"] = (await self.album())["id"]
        return await self._create("/tracks", TrackPayload(**fields))

    async def _create(self, path: str, payload: dict[str, Any]) -> dict[str, Any]:
        response = await self._client.post(path, json=payload)
        assert response.status_code == 201, response.text
        created: dict[str, Any] = response.json()
        return created


@pytest.fixture
def anyio_backend() -> str:
    """Return asyncio: `databases`, and ormar with it, knows nothing else."""
    return "asyncio"


@pytest.fixture
def database_file(tmp_path: Path) -> Path:
    """Return the path of the test's own database, which does not exist yet."""
    return tmp_path / "catalogue.db"


@pytest.fixture
def database_url(database_file: Path) -> str:
    """Return the URL of the test's own database."""
    return f"sqlite:///{database_file}"


@pytest.fixture
def serve() -> Serve:
    """Return what runs the application on a database and yields a client of it."""

    @asynccontextmanager
    async def running(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
        async with LifespanManager(create_app(database_url)) as manager:
            transport = httpx.ASGITransport(manager.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://app") as client:
                yield client

    return running


@pytest.fixture
async def client(serve: Serve, database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the application, which runs on the test's own database."""
    async with serve(database_url) as client:
        yield client


@pytest.fixture
def catalogue(client: httpx.AsyncClient) -> Catalogue:
    """Return what creates artists, albums and tracks in the running application."""
    return Catalogue(client)
