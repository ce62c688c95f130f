"""The environment of the application's migrations."""

from app.models import metadata
from orchestrator.environment import run_migrations

run_migrations(target_metadata=metadata)
