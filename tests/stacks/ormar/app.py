import ormar
import sqlalchemy
from fastapi import FastAPI, Request
from ormar import DatabaseConnection

from orchestrator import Orchestrator
from orchestrator.lifespan import migrated

metadata = sqlalchemy.MetaData()
database = DatabaseConnection("sqlite+aiosqlite:///app.db")


class Note(ormar.Model):
    ormar_config = ormar.OrmarConfig(database=database, metadata=metadata, tablename="notes")

    id: int = ormar.Integer(primary_key=True)
    text: str = ormar.String(max_length=200)


app = FastAPI(lifespan=migrated(Orchestrator.from_config(), database))


@app.get("/notes")
async def notes(request: Request) -> dict[str, object]:
    found = await Note.objects.all()
    report = request.state.migration
    return {"notes": [note.text for note in found], "versions": report.versions}
