from typing import Any

from litestar import Litestar, Request, get
from notes import answered

from orchestrator import Orchestrator
from orchestrator.asgi import Gate


@get("/notes", sync_to_thread=True)
def notes(request: Request[Any, Any, Any]) -> dict[str, object]:
    return answered(request.scope)


app = Gate(Litestar([notes]), Orchestrator.from_config())
