import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

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


async def notes(request: Request) -> JSONResponse:
    async with engine.connect() as connection:
        found = (await connection.scalars(sa.select(table.c.text))).all()
    report = request.state.migration
    return JSONResponse({"notes": list(found), "versions": report.versions})


app = Starlette(routes=[Route("/notes", notes)], lifespan=migrated(Orchestrator.from_config()))
