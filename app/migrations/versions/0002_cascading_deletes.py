"""Deleting an artist deletes its albums, deleting an album its tracks.

SQLite cannot alter a constraint: batch mode builds each table anew and copies its rows. The tables
are spelled out rather than reflected, so that the SQL of this revision can also be written down
without a database (`alembic upgrade head --sql`).
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0002"
down_revision: str | tuple[str, ...] | None = "0001"
branch_labels: str | tuple[str, ...] | None = None
depends_on: str | tuple[str, ...] | None = None

ALBUMS_TO_ARTISTS = "fk_albums_artists_id_artist"
TRACKS_TO_ALBUMS = "fk_tracks_albums_id_album"


def upgrade() -> None:
    _rebuild(was=None, becomes="CASCADE")


def downgrade() -> None:
    _rebuild(was="CASCADE", becomes=None)


def _rebuild(*, was: str | None, becomes: str | None) -> None:
    with op.batch_alter_table("albums", copy_from=_albums(was)) as albums:
        albums.drop_constraint(ALBUMS_TO_ARTISTS, type_="foreignkey")
        albums.create_foreign_key(
            ALBUMS_TO_ARTISTS, "artists", ["artist_id"], ["id"], ondelete=becomes
        )
    with op.batch_alter_table("tracks", copy_from=_tracks(was)) as tracks:
        tracks.drop_constraint(TRACKS_TO_ALBUMS, type_="foreignkey")
        tracks.create_foreign_key(
            TRACKS_TO_ALBUMS, "albums", ["album_id"], ["id"], ondelete=becomes
        )


def _albums(ondelete: str | None) -> sa.Table:
    return sa.Table(
        "albums",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("artist_id", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("year", sa.Integer(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_albums"),
        sa.ForeignKeyConstraint(
            ["artist_id"], ["artists.id"], name=ALBUMS_TO_ARTISTS, ondelete=ondelete
        ),
        sa.Index("ix_albums_artist_id", "artist_id"),
    )


def _tracks(ondelete: str | None) -> sa.Table:
    return sa.Table(
        "tracks",
        sa.MetaData(),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("album_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("duration_seconds", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tracks"),
        sa.ForeignKeyConstraint(
            ["album_id"], ["albums.id"], name=TRACKS_TO_ALBUMS, ondelete=ondelete
        ),
        sa.UniqueConstraint("album_id", "position", name="uc_tracks_album_id_position"),
    )
