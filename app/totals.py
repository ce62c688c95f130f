"""Keeps `albums.total_seconds` equal to the sum over the album's tracks."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import Update, func, select

from app.models import Album, Track


@asynccontextmanager
async def total_kept(album_id: int) -> AsyncIterator[None]:
    """Change the tracks of an album, and its total with them, in one transaction.

    The body begins with its write: SQLite lets a transaction wait for another writer only as long
    as it has read nothing.
    """
    database = Album.ormar_config.database
    async with database.transaction():
        yield
        await database.execute(_recount(album_id))


def _recount(album_id: int) -> Update:
    albums, tracks = Album.ormar_config.table, Track.ormar_config.table
    total = (
        select(func.coalesce(func.sum(tracks.c.duration_seconds), 0))
        .where(tracks.c.album_id == album_id)
        .scalar_subquery()
    )
    return albums.update().where(albums.c.id == album_id).values(total_seconds=total)
