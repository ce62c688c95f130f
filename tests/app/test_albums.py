"""Albums through the HTTP interface."""

from typing import Any

import httpx
import pytest

from app.models import Album
from app.routes.rows import changed

pytestmark = pytest.mark.anyio


async def test_a_created_album_is_what_is_read_afterwards(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Creating answers 201 with the row; it has no length yet, and an artist to be read with."""
    artist = await catalogue.artist()

    created = await client.post(
        "/albums", json={"artist_id": artist["id"], "title": "Pastel Blues", "year": 1965}
    )

    row = {
        "id": 1,
        "artist_id": artist["id"],
        "title": "Pastel Blues",
        "year": 1965,
        "total_seconds": 0,
    }
    assert created.status_code == 201
    assert created.json() == row
    read = await client.get("/albums/1")
    assert read.json() == {**row, "artist": artist, "tracks": []}


async def test_the_year_of_an_album_may_be_unknown(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """A year that is absent is null, and a known year can be made unknown again."""
    artist = await catalogue.artist()
    created = await client.post("/albums", json={"artist_id": artist["id"], "title": "Demos"})
    known = await catalogue.album(year=1965)

    assert created.json()["year"] is None
    forgotten = await client.patch(f"/albums/{known['id']}", json={"year": None})
    assert forgotten.json()["year"] is None


async def test_an_album_is_read_with_its_artist_and_tracks(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """The tracks come in the order of their positions, and no other album's are among them."""
    artist = await catalogue.artist()
    album = await catalogue.album(artist_id=artist["id"])
    second = await catalogue.track(album_id=album["id"], position=2, duration_seconds=200)
    first = await catalogue.track(album_id=album["id"], position=1, duration_seconds=100)
    await catalogue.track()

    read = await client.get(f"/albums/{album['id']}")

    assert read.json() == {
        **album,
        "total_seconds": 300,
        "artist": artist,
        "tracks": [first, second],
    }


async def test_albums_are_listed_by_title_page_by_page(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """A page holds as many albums as were asked for, in the order of their titles."""
    for title in ("Kind of Blue", "Blue Train", "Giant Steps"):
        await catalogue.album(title=title)

    page = (await client.get("/albums", params={"page": 1, "page_size": 2})).json()

    assert [row["title"] for row in page["items"]] == ["Blue Train", "Giant Steps"]
    assert page["total"] == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"artist_id": None},
        {"artist_id": 0},
        {"artist_id": {"name": "Somebody"}},
        {"title": ""},
        {"year": 1859},
        {"total_seconds": 10},
    ],
)
async def test_what_is_not_an_album_is_refused(
    client: httpx.AsyncClient, catalogue: Any, wrong: dict[str, Any]
) -> None:
    """Neither creating nor changing takes a value that an album cannot have: 422, no change."""
    album = await catalogue.album()
    payload = {"artist_id": album["artist_id"], "title": "Pastel Blues", **wrong}

    assert (await client.post("/albums", json=payload)).status_code == 422
    assert (await client.patch(f"/albums/{album['id']}", json=wrong)).status_code == 422
    assert (await client.get("/albums")).json()["items"] == [album]


async def test_an_album_of_an_artist_that_does_not_exist_is_refused(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Both creating and changing answer 409, name the artist, and leave the albums alone."""
    album = await catalogue.album()

    created = await client.post("/albums", json={"artist_id": 99, "title": "Ghosts"})
    changed = await client.patch(f"/albums/{album['id']}", json={"artist_id": 99})

    for response in (created, changed):
        assert response.status_code == 409
        assert response.json() == {"detail": "there is no artist 99"}
    assert (await client.get("/albums")).json()["items"] == [album]


async def test_an_album_can_be_given_to_another_artist(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """A change of the artist is answered, and both artists are read accordingly."""
    album = await catalogue.album()
    other = await catalogue.artist()

    changed = await client.patch(f"/albums/{album['id']}", json={"artist_id": other["id"]})

    assert changed.json() == {**album, "artist_id": other["id"]}
    assert (await client.get(f"/artists/{album['artist_id']}")).json()["albums"] == []
    assert (await client.get(f"/artists/{other['id']}")).json()["albums"] == [changed.json()]


async def test_a_change_without_content_changes_nothing(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """An empty change is answered with the album as it is."""
    album = await catalogue.album()

    response = await client.patch(f"/albums/{album['id']}", json={})

    assert (response.status_code, response.json()) == (200, album)


@pytest.mark.parametrize("change", [{}, {"title": "Renamed"}])
async def test_a_change_writes_only_what_it_names(
    client: httpx.AsyncClient, catalogue: Any, change: dict[str, Any]
) -> None:
    """What others wrote between the read and the write of a change is not put back."""
    album = await catalogue.album()
    row = await Album.objects.get(id=album["id"])
    await catalogue.track(album_id=album["id"], duration_seconds=100)

    await changed(row, change)

    read = (await client.get("/albums")).json()["items"]
    assert read == [{**album, **change, "total_seconds": 100}]


async def test_a_deleted_album_is_gone_with_its_tracks(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Deleting answers 204; the tracks go too, the artist stays."""
    track = await catalogue.track()
    album = (await client.get(f"/albums/{track['album_id']}")).json()

    deleted = await client.delete(f"/albums/{album['id']}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await client.get(f"/tracks/{track['id']}")).status_code == 404
    assert (await client.get(f"/artists/{album['artist_id']}")).json()["albums"] == []


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_album_that_does_not_exist_is_not_found(
    client: httpx.AsyncClient, method: str
) -> None:
    """Reading, changing or deleting what does not exist gets 404 and names it."""
    payload = {"title": "Ghosts"} if method == "PATCH" else None

    response = await client.request(method, "/albums/99", json=payload)

    assert response.status_code == 404
    assert response.json() == {"detail": "there is no album 99"}
