"""Existing Alembic projects, of every kind, that are run as they are."""
