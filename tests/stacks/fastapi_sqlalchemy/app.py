from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from sqlalchemy import String, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from orchestrator import Orchestrator
from orchestrator.lifespan import migrated


class Base(DeclarativeBase):
    pass


class Note(Base):
    __tablename__ = "notes"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(200))


engine = create_async_engine("sqlite+aiosqlite:///app.db")
session = async_sessionmaker(engine)


@asynccontextmanager
async def own_lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await engine.dispose()


app = FastAPI(lifespan=migrated(Orchestrator.from_config(), then=own_lifespan))


@app.get("/notes")
async def notes(request: Request) -> dict[str, object]:
    async with session() as one:
        found = (await one.scalars(select(Note))).all()
    report = request.state.migration
    return {"notes": [note.text for note in found], "versions": report.versions}
