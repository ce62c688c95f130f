import sqlalchemy as sa
from litestar import Litestar, get
from sqlalchemy.ext.asyncio import create_async_engine

from orchestrator import Orchestrator
from orchestrator.lifespan import migrated

metadata = sa.MetaData()
table = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(200), nullable=False),
)
engine = create_async_engine("sqlite+aiosqlite:///app.db")


@get("/notes")
async def notes() -> dict[str, object]:
    async with engine.connect() as connection:
        found = (await connection.scalars(sa.select(table.c.text))).all()
    return {"notes": list(found), "versions": ["0001"]}


app = Litestar([notes], lifespan=[migrated(Orchestrator.from_config())])
