"""Tracks, whose durations add up to the total of their album."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, status

from app.models import Track
from app.routes.pagination import Page, PageWanted, page_of
from app.routes.rows import changed, conflicts, found
from app.schemas import Id, NewTrack, TrackChange, TrackRead
from app.totals import total_kept

router = APIRouter(prefix="/tracks", tags=["tracks"])


async def wanted_track(track_id: Id) -> Track:
    """Return the track that the path names."""
    return await found(Track.objects, track_id)


WantedTrack = Annotated[Track, Depends(wanted_track)]


def taken(album_id: int, position: int | None) -> str:
    """Say that two tracks cannot have one position."""
    return f"album {album_id} already has a track {position}"


@router.post("", status_code=status.HTTP_201_CREATED, response_model=TrackRead)
async def create_track(new: NewTrack) -> Track:
    """Create a track on an album that exists, at a position that is free."""
    missing = f"there is no album {new.album}"
    with conflicts(missing=missing, taken=taken(new.album, new.position)):
        async with total_kept(new.album):
            return await Track.objects.create(**new.model_dump())


@router.get("", response_model=Page[TrackRead])
async def list_tracks(wanted: PageWanted) -> dict[str, Any]:
    """List tracks by album and position."""
    return await page_of(Track.objects.order_by(["album", "position"]), wanted)


@router.get("/{track_id}", response_model=TrackRead)
async def get_track(track: WantedTrack) -> Track:
    """Return a track."""
    return track


@router.patch("/{track_id}", response_model=TrackRead)
async def change_track(track: WantedTrack, change: TrackChange) -> Track:
    """Change what the request names."""
    with conflicts(taken=taken(track.album.id, change.get("position"))):
        async with total_kept(track.album.id):
            return await changed(track, change)


@router.delete("/{track_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_track(track: WantedTrack) -> None:
    """Delete a track."""
    async with total_kept(track.album.id):
        await track.delete()
