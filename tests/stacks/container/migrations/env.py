from app import metadata
from orchestrator.environment import run_migrations

run_migrations(target_metadata=metadata)
