from alembic import context
from sqlalchemy import engine_from_config

from app import metadata

engine = engine_from_config(context.config.get_section("alembic", {}), prefix="sqlalchemy.")
with engine.connect() as connection:
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()
