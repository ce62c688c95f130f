"""Each album knows how long it is.

The server default lets workers of the release before, which do not know the column, go on adding
albums while this one is rolled out.
"""

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | tuple[str, ...] | None = "0002"
branch_labels: str | tuple[str, ...] | None = None
depends_on: str | tuple[str, ...] | None = None

# As they are at this revision: the application's models go on changing.
albums = sa.table("albums", sa.column("id"), sa.column("total_seconds"))
tracks = sa.table("tracks", sa.column("album_id"), sa.column("duration_seconds"))


def upgrade() -> None:
    op.add_column(
        "albums", sa.Column("total_seconds", sa.Integer(), nullable=False, server_default="0")
    )
    total = (
        sa.select(sa.func.coalesce(sa.func.sum(tracks.c.duration_seconds), 0))
        .where(tracks.c.album_id == albums.c.id)
        .scalar_subquery()
    )
    op.execute(albums.update().values(total_seconds=total))


def downgrade() -> None:
    op.drop_column("albums", "total_seconds")
