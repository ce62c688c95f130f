"""Whether this worker serves, and on which schema."""

from fastapi import APIRouter, Request
from pydantic import BaseModel

from app import __version__

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The state of one worker."""

    release: str
    versions: list[str]
    led: bool


@router.get("/health")
async def health(request: Request) -> Health:
    """Return the schema's versions, and whether this worker was the one that migrated it."""
    report = request.state.migration
    return Health(release=__version__, versions=list(report.versions), led=report.led)
