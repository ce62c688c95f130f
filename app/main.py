"""The application: `uvicorn --factory app.main:create_app`."""

from pathlib import Path

from fastapi import FastAPI

from app import __version__
from app.database import CatalogueDatabase
from app.routes import router
from orchestrator import Orchestrator
from orchestrator.lifespan import migrated

CONFIG = Path(__file__).parents[1] / "config" / "orchestrator.toml"


def create_app(database_url: str | None = None) -> FastAPI:
    """Build an application that serves on a database which is at its target.

    Args:
        database_url: a SQLite file, or a database on a PostgreSQL server. By default
            `ORCHESTRATOR_DATABASE_URL`, then what the configuration names.
    """
    orchestrator = Orchestrator.from_config(CONFIG, database_url=database_url, release=__version__)
    database = CatalogueDatabase(orchestrator.resources.url.render_as_string(hide_password=False))
    app = FastAPI(title="Catalogue", version=__version__, lifespan=migrated(orchestrator, database))
    app.include_router(router)
    return app
