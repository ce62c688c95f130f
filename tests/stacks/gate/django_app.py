import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import path
from notes import answered

from orchestrator import Orchestrator
from orchestrator.asgi import Gate

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test")
django.setup()


async def notes(request: HttpRequest) -> JsonResponse:
    return JsonResponse(answered(request.scope))


urlpatterns = [path("notes", notes)]
app = Gate(get_asgi_application(), Orchestrator.from_config())
