"""Alembic, as it is: the scripts, and the one pass of `env.py`.

Beside `orchestrator.environment` this package is the only importer of Alembic, so that a warm
start needs none: import it where the work begins.
"""
