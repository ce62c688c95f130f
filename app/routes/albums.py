"""Albums."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, status

from app.models import Album
from app.routes.pagination import Page, PageWanted, page_of
from app.routes.rows import changed, conflicts, found
from app.schemas import AlbumChange, AlbumDetail, AlbumRead, Id, NewAlbum

router = APIRouter(prefix="/albums", tags=["albums"])


async def wanted_album(album_id: Id) -> Album:
    """Return the album that the path names."""
    return await found(Album.objects, album_id)


WantedAlbum = Annotated[Album, Depends(wanted_album)]


@router.post("", status_code=status.HTTP_201_CREATED, response_model=AlbumRead)
async def create_album(new: NewAlbum) -> Album:
    """Create an album of an artist that exists."""
    with conflicts(missing=f"there is no artist {new.artist}"):
        return await Album.objects.create(**new.model_dump())


@router.get("", response_model=Page[AlbumRead])
async def list_albums(wanted: PageWanted) -> dict[str, Any]:
    """List albums by title."""
    return await page_of(Album.objects.order_by(["title", "id"]), wanted)


@router.get("/{album_id}", response_model=AlbumDetail)
async def get_album(album_id: Id) -> Album:
    """Return an album with its artist and all tracks."""
    rows = Album.objects.select_related(["artist", "tracks"]).order_by("tracks__position")
    return await found(rows, album_id)


@router.patch("/{album_id}", response_model=AlbumRead)
async def change_album(album: WantedAlbum, change: AlbumChange) -> Album:
    """Change what the request names."""
    with conflicts(missing=f"there is no artist {change.get('artist')}"):
        return await changed(album, change)


@router.delete("/{album_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_album(album: WantedAlbum) -> None:
    """Delete an album and its tracks."""
    await album.delete()
