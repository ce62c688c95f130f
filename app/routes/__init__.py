"""The HTTP interface: one module for each kind of resource."""

from fastapi import APIRouter

from app.routes import albums, artists, health, tracks

router = APIRouter()
for resource in (health, artists, albums, tracks):
    router.include_router(resource.router)
