"""What the catalogue is made of: artists, their albums, the tracks on them."""

import databases
import ormar
import sqlalchemy

metadata = sqlalchemy.MetaData(
    # Batch migrations on SQLite address constraints by name. ormar 0.21 names foreign keys and
    # unique columns by itself; these are the names that it leaves open.
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

# ormar wants a database when a class is declared. This one is never connected: the database of
# the application takes its place when it connects (see app/database.py).
_undecided = databases.Database("sqlite://")

_catalogue = ormar.OrmarConfig(metadata=metadata, database=_undecided)


class Artist(ormar.Model):
    """Somebody who makes albums."""

    ormar_config = _catalogue.copy(tablename="artists")

    id: int = ormar.Integer(primary_key=True)
    name: str = ormar.String(max_length=200)


class Album(ormar.Model):
    """A record by one artist; it goes when the artist goes."""

    ormar_config = _catalogue.copy(tablename="albums")

    id: int = ormar.Integer(primary_key=True)
    artist: Artist = ormar.ForeignKey(
        Artist,
        name="artist_id",
        related_name="albums",
        nullable=False,
        index=True,
        ondelete="CASCADE",
    )
    title: str = ormar.String(max_length=200)
    year: int | None = ormar.Integer(nullable=True)
    # Kept with the album, so that a list of albums need not read all tracks: see app/totals.py.
    total_seconds: int = ormar.Integer(nullable=False, default=0, server_default="0")


class Track(ormar.Model):
    """One piece on an album, at a position of its own; it goes when the album goes."""

    ormar_config = _catalogue.copy(
        tablename="tracks",
        constraints=[ormar.UniqueColumns("album_id", "position")],
    )

    id: int = ormar.Integer(primary_key=True)
    album: Album = ormar.ForeignKey(
        Album, name="album_id", related_name="tracks", nullable=False, ondelete="CASCADE"
    )
    position: int = ormar.Integer()
    title: str = ormar.String(max_length=200)
    duration_seconds: int = ormar.Integer()


MODELS: tuple[type[ormar.Model], ...] = (Artist, Album, Track)
