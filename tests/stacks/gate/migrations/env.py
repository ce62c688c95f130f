from orchestrator.environment import run_migrations

run_migrations()
