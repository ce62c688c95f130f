from notes import answered
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestrator import Orchestrator
from orchestrator.asgi import Gate


async def notes(request: Request) -> JSONResponse:
    return JSONResponse(answered(request.scope))


app = Gate(Starlette(routes=[Route("/notes", notes)]), Orchestrator.from_config())
