from fastapi import FastAPI, Request
from notes import answered

from orchestrator import Orchestrator
from orchestrator.asgi import Gate

app = FastAPI()
app.add_middleware(Gate, orchestrator=Orchestrator.from_config())


@app.get("/notes")
def notes(request: Request) -> dict[str, object]:
    return answered(request.scope)
