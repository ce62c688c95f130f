from orchestrator.environment import run_migrations

from app import metadata

run_migrations(target_metadata=metadata)
