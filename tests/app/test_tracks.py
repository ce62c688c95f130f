"""Tracks through the HTTP interface, and the total of the album that they are on."""

from functools import partial
from typing import Any

import anyio
import httpx
import pytest

from app.models import Track
from app.totals import total_kept

pytestmark = pytest.mark.anyio


async def total_of(client: httpx.AsyncClient, album_id: int) -> int:
    """Return the total that the API tells for an album."""
    total: int = (await client.get(f"/albums/{album_id}")).json()["total_seconds"]
    return total


async def test_a_created_track_is_what_is_read_afterwards(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Creating answers 201 with the row, and reading by its id gives the same row."""
    album = await catalogue.album()
    payload = {
        "album_id": album["id"],
        "position": 1,
        "title": "Be My Husband",
        "duration_seconds": 202,
    }

    created = await client.post("/tracks", json=payload)

    assert created.status_code == 201
    assert created.json() == {"id": 1, **payload}
    assert (await client.get("/tracks/1")).json() == created.json()


async def test_tracks_are_listed_by_album_and_position(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """A page holds as many tracks as were asked for, those of one album together, in order."""
    first, second = (await catalogue.album())["id"], (await catalogue.album())["id"]
    for album_id, position in ((second, 1), (first, 2), (first, 1)):
        await catalogue.track(album_id=album_id, position=position)

    page = (await client.get("/tracks", params={"page_size": 2})).json()

    assert [(row["album_id"], row["position"]) for row in page["items"]] == [(first, 1), (first, 2)]
    assert page["total"] == 3


async def test_the_total_of_an_album_follows_its_tracks(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """After a track is created, changed or deleted the total is the sum of the durations."""
    first = await catalogue.track(duration_seconds=100)
    album_id = first["album_id"]
    assert await total_of(client, album_id) == 100

    second = await catalogue.track(album_id=album_id, duration_seconds=20)
    assert await total_of(client, album_id) == 120

    await client.patch(f"/tracks/{second['id']}", json={"duration_seconds": 30})
    assert await total_of(client, album_id) == 130

    await client.delete(f"/tracks/{first['id']}")
    assert await total_of(client, album_id) == 30

    await client.delete(f"/tracks/{second['id']}")
    assert await total_of(client, album_id) == 0


async def test_the_total_is_right_when_many_write_at_once(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Of tracks created at the same time, none is refused, lost, or missing in the total."""
    album = await catalogue.album()

    async with anyio.create_task_group() as tasks:
        for position in range(1, 13):
            tasks.start_soon(
                partial(
                    catalogue.track,
                    album_id=album["id"],
                    position=position,
                    duration_seconds=position,
                )
            )

    assert await total_of(client, album["id"]) == sum(range(1, 13))


async def test_a_write_that_fails_leaves_tracks_and_total_alone(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """A track and its share of the total are written together or not at all."""
    track = await catalogue.track(duration_seconds=100)

    async def write_and_fail() -> None:
        async with total_kept(track["album_id"]):
            await Track.objects.filter(id=track["id"]).update(duration_seconds=200)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        await write_and_fail()

    assert (await client.get(f"/tracks/{track['id']}")).json() == track
    assert await total_of(client, track["album_id"]) == 100


async def test_two_tracks_cannot_have_one_position(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Creating at a position that is taken, or moving there, gets 409 and changes no total."""
    first = await catalogue.track(position=1, duration_seconds=100)
    second = await catalogue.track(album_id=first["album_id"], position=2, duration_seconds=20)

    created = await client.post(
        "/tracks",
        json={
            "album_id": first["album_id"],
            "position": 1,
            "title": "Sinnerman",
            "duration_seconds": 622,
        },
    )
    moved = await client.patch(
        f"/tracks/{second['id']}", json={"position": 1, "duration_seconds": 622}
    )

    for response in (created, moved):
        assert response.status_code == 409
        assert response.json() == {"detail": f"album {first['album_id']} already has a track 1"}
    assert (await client.get("/tracks")).json()["items"] == [first, second]
    assert await total_of(client, first["album_id"]) == 120


async def test_a_track_on_an_album_that_does_not_exist_is_refused(
    client: httpx.AsyncClient,
) -> None:
    """Creating answers 409, names the album, and leaves no track behind."""
    created = await client.post(
        "/tracks",
        json={"album_id": 99, "position": 1, "title": "Ghosts", "duration_seconds": 60},
    )

    assert created.status_code == 409
    assert created.json() == {"detail": "there is no album 99"}
    assert (await client.get("/tracks")).json()["total"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"position": 0},
        {"position": 1000},
        {"title": None},
        {"duration_seconds": 0},
        {"duration_seconds": "long"},
    ],
)
async def test_what_is_not_a_track_is_refused(
    client: httpx.AsyncClient, catalogue: Any, wrong: dict[str, Any]
) -> None:
    """Neither creating nor changing takes a value that a track cannot have: 422, no change."""
    track = await catalogue.track()
    payload = {**track, "position": track["position"] + 1, **wrong}
    del payload["id"]

    assert (await client.post("/tracks", json=payload)).status_code == 422
    assert (await client.patch(f"/tracks/{track['id']}", json=wrong)).status_code == 422
    assert (await client.get("/tracks")).json()["items"] == [track]


async def test_a_track_stays_on_its_album(client: httpx.AsyncClient, catalogue: Any) -> None:
    """A change that names an album is refused with 422."""
    track = await catalogue.track()
    other = await catalogue.album()

    moved = await client.patch(f"/tracks/{track['id']}", json={"album_id": other["id"]})

    assert moved.status_code == 422
    assert (await client.get(f"/tracks/{track['id']}")).json() == track


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_a_track_that_does_not_exist_is_not_found(
    client: httpx.AsyncClient, method: str
) -> None:
    """Reading, changing or deleting what does not exist gets 404 and names it."""
    payload = {"title": "Ghosts"} if method == "PATCH" else None

    response = await client.request(method, "/tracks/99", json=payload)

    assert response.status_code == 404
    assert response.json() == {"detail": "there is no track 99"}
