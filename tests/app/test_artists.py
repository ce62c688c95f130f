"""Artists through the HTTP interface."""

from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.anyio


async def test_a_created_artist_is_what_is_read_afterwards(client: httpx.AsyncClient) -> None:
    """Creating answers 201 with the row, and reading by its id gives the same row."""
    created = await client.post("/artists", json={"name": "Nina Simone"})

    assert created.status_code == 201
    assert created.json() == {"id": 1, "name": "Nina Simone"}
    read = await client.get("/artists/1")
    assert read.json() == {"id": 1, "name": "Nina Simone", "albums": []}


async def test_space_around_a_name_is_not_part_of_it(client: httpx.AsyncClient) -> None:
    """A name is kept without the space around it."""
    created = await client.post("/artists", json={"name": "  Nina Simone\n"})

    assert created.json()["name"] == "Nina Simone"


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"name": None},
        {"name": ""},
        {"name": "   "},
        {"name": "n" * 201},
        {"name": "Nina Simone", "id": 7},
    ],
)
async def test_what_is_not_an_artist_is_refused(
    client: httpx.AsyncClient, payload: dict[str, Any]
) -> None:
    """A payload that lacks a name, or says more than a client may say, gets 422 and no row."""
    assert (await client.post("/artists", json=payload)).status_code == 422
    assert (await client.get("/artists")).json()["total"] == 0


async def test_artists_are_listed_by_name_page_by_page(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """The pages together are all artists in the order of their names, each exactly once."""
    names = ["Coltrane", "Armstrong", "Davis", "Basie", "Ellington"]
    for name in names:
        await catalogue.artist(name=name)

    pages = [
        (await client.get("/artists", params={"page": page, "page_size": 2})).json()
        for page in (1, 2, 3, 4)
    ]

    assert [[row["name"] for row in page["items"]] for page in pages] == [
        ["Armstrong", "Basie"],
        ["Coltrane", "Davis"],
        ["Ellington"],
        [],
    ]
    assert {(page["total"], page["page_size"]) for page in pages} == {(5, 2)}


@pytest.mark.parametrize(
    "query", [{"page": 0}, {"page_size": 0}, {"page_size": 101}, {"page": "x"}]
)
async def test_a_page_that_cannot_be_is_refused(
    client: httpx.AsyncClient, query: dict[str, Any]
) -> None:
    """A page below 1 or a page size outside 1 to 100 gets 422."""
    assert (await client.get("/artists", params=query)).status_code == 422


async def test_an_artist_is_read_with_all_albums(client: httpx.AsyncClient, catalogue: Any) -> None:
    """The albums come with their artist, oldest first, and no one else's are among them."""
    artist = await catalogue.artist()
    later = await catalogue.album(artist_id=artist["id"], year=1966)
    earlier = await catalogue.album(artist_id=artist["id"], year=1959)
    await catalogue.album()

    read = await client.get(f"/artists/{artist['id']}")

    assert read.json() == {**artist, "albums": [earlier, later]}


async def test_a_change_is_kept(client: httpx.AsyncClient, catalogue: Any) -> None:
    """A changed name is answered, and read afterwards."""
    artist = await catalogue.artist(name="Nina Simon")

    changed = await client.patch(f"/artists/{artist['id']}", json={"name": "Nina Simone"})

    assert changed.status_code == 200
    assert changed.json() == {**artist, "name": "Nina Simone"}
    read = await client.get(f"/artists/{artist['id']}")
    assert read.json()["name"] == "Nina Simone"


async def test_a_deleted_artist_is_gone_with_everything(
    client: httpx.AsyncClient, catalogue: Any
) -> None:
    """Deleting answers 204 without a body; albums and tracks go too, other artists' stay."""
    track = await catalogue.track()
    album = (await client.get(f"/albums/{track['album_id']}")).json()
    other = await catalogue.track()

    deleted = await client.delete(f"/artists/{album['artist_id']}")

    assert (deleted.status_code, deleted.content) == (204, b"")
    assert (await client.get(f"/artists/{album['artist_id']}")).status_code == 404
    assert [row["id"] for row in (await client.get("/albums")).json()["items"]] == [
        other["album_id"]
    ]
    assert (await client.get("/tracks")).json()["items"] == [other]


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_an_artist_that_does_not_exist_is_not_found(
    client: httpx.AsyncClient, method: str
) -> None:
    """Reading, changing or deleting what does not exist gets 404 and names it."""
    payload = {"name": "Nobody"} if method == "PATCH" else None

    response = await client.request(method, "/artists/99", json=payload)

    assert response.status_code == 404
    assert response.json() == {"detail": "there is no artist 99"}


@pytest.mark.parametrize("artist_id", ["0", "-1", "x", str(2**63)])
async def test_an_id_that_cannot_be_is_refused(client: httpx.AsyncClient, artist_id: str) -> None:
    """An id that no row can have gets 422, also where SQLite could not even hold it."""
    assert (await client.get(f"/artists/{artist_id}")).status_code == 422
