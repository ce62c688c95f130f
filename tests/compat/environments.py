"""`env.py` as people write them: how each connects, and what each makes of a transaction."""

from __future__ import annotations

from textwrap import dedent, indent
from typing import Final

_HEAD = """
from alembic import context
from sqlalchemy import create_engine, event, pool, text
from models import metadata

url = context.config.get_main_option("sqlalchemy.url")
"""

_CONFIGURE = "context.configure(connection=connection, target_metadata=metadata{options})"
_MIGRATE = """
with context.begin_transaction():
    context.run_migrations()
"""


def _env(
    *,
    engine: str = "connectable = create_engine(url, poolclass=pool.NullPool)",
    connect: str = "connectable.connect()",
    first: str = "",
    options: str = "",
    migrate: str = _MIGRATE,
) -> str:
    body = "\n".join([dedent(first), _CONFIGURE.format(options=options), dedent(migrate)])
    return (
        f"{_HEAD}\n{dedent(engine)}\n"
        f"with {connect} as connection:\n{indent(body.strip(), '    ')}\n"
    )


_ASYNC = """
import asyncio
from alembic import context
from models import metadata
from application import engine


def migrate(connection):
    context.configure(connection=connection, target_metadata=metadata)
    with context.begin_transaction():
        context.run_migrations()


async def main():
    async with engine.{connect}() as connection:
        await connection.run_sync(migrate)
    {end}


asyncio.run(main())
"""

APPLICATION: Final = """
from sqlalchemy import create_engine, event

engine = create_engine("sqlite:///app.db", pool_size=2, max_overflow=0)


@event.listens_for(engine, "connect")
def on_connect(connection, record):
    connection.execute("PRAGMA foreign_keys = ON")
"""

BEGINNING_APPLICATION: Final = f"""{APPLICATION}
    connection.isolation_level = None  # SQLAlchemy's recipe for transactions on SQLite


@event.listens_for(engine, "begin")
def on_begin(connection):
    connection.exec_driver_sql("BEGIN")
"""

DRIVER_BEGINS: Final = BEGINNING_APPLICATION.replace(
    'connection.exec_driver_sql("BEGIN")',
    'connection.connection.driver_connection.execute("BEGIN").close()',
)

ASYNC_APPLICATION: Final = """
from sqlalchemy.ext.asyncio import create_async_engine

engine = create_async_engine("sqlite+aiosqlite:///app.db", pool_size=2)
"""

APPLICATIONS: Final = {
    "application_engine": APPLICATION,
    "application_engine_that_begins": BEGINNING_APPLICATION,
    "application_engine_that_begins_each": BEGINNING_APPLICATION,
    "application_engine_whose_driver_begins_each": DRIVER_BEGINS,
    "async_application_engine": ASYNC_APPLICATION,
    "async_application_engine_that_begins": ASYNC_APPLICATION,
}
"""The `application.py` that belongs to an environment."""

_EACH = ", transaction_per_migration=True"
_APPLICATION_ENGINE = "from application import engine as connectable"
_OFFERED = """
connectable = context.config.attributes.get("connection")
if connectable is None:
    connectable = create_engine(url, poolclass=pool.NullPool)
"""

ENVIRONMENTS: Final = {
    "own_engine": _env(),
    "application_engine": _env(engine=_APPLICATION_ENGINE),
    "application_engine_that_begins": _env(engine=_APPLICATION_ENGINE),
    "application_engine_that_begins_each": _env(engine=_APPLICATION_ENGINE, options=_EACH),
    "application_engine_whose_driver_begins_each": _env(engine=_APPLICATION_ENGINE, options=_EACH),
    "async_application_engine": _ASYNC.format(connect="connect", end="await engine.dispose()"),
    "async_application_engine_that_begins": _ASYNC.format(connect="begin", end=""),
    "offered_engine": _env(engine=_OFFERED),
    "offered_connection": _env(
        engine=_OFFERED,
        connect="(connectable.connect() if hasattr(connectable, 'connect') else connectable)",
    ),
    "engine_of_what_is_offered": _env(engine=f"{_OFFERED}\nconnectable = connectable.engine"),
    "begins_on_the_engine": _env(connect="connectable.begin()", migrate="context.run_migrations()"),
    "begins_twice": _env(connect="connectable.begin()"),
    "begins_on_the_connection": _env(
        first="transaction = connection.begin()",
        migrate="context.run_migrations()\ntransaction.commit()",
    ),
    "begins_by_a_statement": _env(first='connection.execute(text("SELECT 1"))'),
    "begins_nothing": _env(migrate="context.run_migrations()"),
    "commits_itself": _env(migrate="context.run_migrations()\nconnection.commit()"),
    "autocommit_of_the_engine": _env(
        engine='connectable = create_engine(url, isolation_level="AUTOCOMMIT")'
    ),
    "autocommit_of_the_connection": _env(
        connect='connectable.connect().execution_options(isolation_level="AUTOCOMMIT")'
    ),
    "autocommit_without_beginning": _env(
        connect='connectable.connect().execution_options(isolation_level="AUTOCOMMIT")',
        migrate="context.run_migrations()",
    ),
    "no_transactional_ddl": _env(options=", transactional_ddl=False"),
    "a_transaction_per_migration": _env(options=_EACH),
    "render_as_batch": _env(options=", render_as_batch=True"),
}
"""A name and a whole `env.py` each; all of them know the database `app.db`."""

KEEPS_EACH: Final = {
    "a_transaction_per_migration",
    "application_engine_that_begins_each",
    "application_engine_whose_driver_begins_each",
    "no_transactional_ddl",
}
"""Those that ask for a commit after each revision."""
