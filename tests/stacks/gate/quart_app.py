from notes import answered
from quart import Quart, request

from orchestrator import Orchestrator
from orchestrator.asgi import Gate

app = Quart(__name__)
app.asgi_app = Gate(app.asgi_app, Orchestrator.from_config())


@app.get("/notes")
async def notes() -> dict[str, object]:
    return answered(request.scope)
