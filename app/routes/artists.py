"""Artists."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, status

from app.models import Artist
from app.routes.pagination import Page, PageWanted, page_of
from app.routes.rows import changed, found
from app.schemas import ArtistChange, ArtistDetail, ArtistRead, Id, NewArtist

router = APIRouter(prefix="/artists", tags=["artists"])


async def wanted_artist(artist_id: Id) -> Artist:
    """Return the artist that the path names."""
    return await found(Artist.objects, artist_id)


WantedArtist = Annotated[Artist, Depends(wanted_artist)]


@router.post("", status_code=status.HTTP_201_CREATED, response_model=ArtistRead)
async def create_artist(new: NewArtist) -> Artist:
    """Create an artist."""
    return await Artist.objects.create(**new.model_dump())


@router.get("", response_model=Page[ArtistRead])
async def list_artists(wanted: PageWanted) -> dict[str, Any]:
    """List artists by name."""
    return await page_of(Artist.objects.order_by(["name", "id"]), wanted)


@router.get("/{artist_id}", response_model=ArtistDetail)
async def get_artist(artist_id: Id) -> Artist:
    """Return an artist with all albums."""
    rows = Artist.objects.select_related("albums").order_by(["albums__year", "albums__id"])
    return await found(rows, artist_id)


@router.patch("/{artist_id}", response_model=ArtistRead)
async def change_artist(artist: WantedArtist, change: ArtistChange) -> Artist:
    """Change what the request names."""
    return await changed(artist, change)


@router.delete("/{artist_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_artist(artist: WantedArtist) -> None:
    """Delete an artist, and with it all albums and their tracks."""
    await artist.delete()
