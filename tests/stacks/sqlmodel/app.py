from fastapi import FastAPI, Request
from sqlmodel import Field, Session, SQLModel, create_engine, select

from orchestrator import Orchestrator
from orchestrator.lifespan import migrated


class Note(SQLModel, table=True):
    __tablename__ = "notes"

    id: int | None = Field(default=None, primary_key=True)
    text: str = Field(max_length=200)


metadata = SQLModel.metadata
engine = create_engine("sqlite:///app.db")
# Instead of SQLModel.metadata.create_all(engine):
app = FastAPI(lifespan=migrated(Orchestrator.from_config()))


@app.get("/notes")
def notes(request: Request) -> dict[str, object]:
    with Session(engine) as session:
        found = session.exec(select(Note)).all()
    report = request.state.migration
    return {"notes": [note.text for note in found], "versions": report.versions}
