"""A whole `env.py`, for new projects: one call of `run_migrations`.

    from orchestrator.environment import run_migrations
    from app.database import metadata

    run_migrations(target_metadata=metadata)

It works online and offline (`--sql`), inside the orchestrator and under the plain `alembic`
command, which then takes the same file lock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from alembic import context
from anyio.from_thread import start_blocking_portal
from sqlalchemy import MetaData, create_engine
from sqlalchemy.pool import NullPool

from orchestrator.databases.base import Database
from orchestrator.databases.url import unknown_url
from orchestrator.errors import LockTimeout
from orchestrator.events import Warned
from orchestrator.host.peers import Peers
from orchestrator.locks.base import Lock
from orchestrator.locks.waiting import hold
from orchestrator.revisions.config import PLACEHOLDER
from orchestrator.revisions.environment_context import ATTRIBUTE
from orchestrator.run.broadcast import Broadcast
from orchestrator.run.log import log_sink
from orchestrator.run.resources import Resources
from orchestrator.settings import load


def run_migrations(
    target_metadata: MetaData | Sequence[MetaData] | None = None, **options: Any
) -> None:
    """Run what Alembic was asked for, on the database that it or the orchestrator names.

    The URL is the Alembic config's `sqlalchemy.url`, else the orchestrator's setting
    `database_url`. `options` go to `context.configure()`; `render_as_batch` is on
    where the database needs it, unless they say otherwise.

    Raises `ConfigurationError` where no URL is known.
    """
    inside = context.config.attributes.get(ATTRIBUTE, False)
    written = context.config.get_alembic_option("sqlalchemy.url")
    placeholder = written is not None and written.startswith(PLACEHOLDER)
    resources = Resources(
        load(
            database_url=None if placeholder else written,
            alembic_section=context.config.config_ini_section,
        )
    )
    if not resources.names_database:
        raise unknown_url()
    database = resources.database
    options.setdefault("render_as_batch", database.alters_by_copy)
    if context.is_offline_mode():
        _offline(database, target_metadata, options)
    elif inside:
        _online(database, target_metadata, options)
    else:
        resources.prepare()
        with _locked(resources):
            _online(database, target_metadata, options)


def _online(database: Database, target_metadata: Any, options: dict[str, Any]) -> None:
    engine = create_engine(database.synchronous_url, poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=target_metadata, **options)
        with context.begin_transaction():
            context.run_migrations()


def _offline(database: Database, target_metadata: Any, options: dict[str, Any]) -> None:
    context.configure(
        url=database.synchronous_url.render_as_string(hide_password=False),
        target_metadata=target_metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


@contextmanager
def _locked(resources: Resources) -> Iterator[None]:
    """Hold the locks that the orchestrator's runs hold. Raises `LockTimeout`."""
    holder = resources.holder(secrets.token_hex(6), "alembic")
    tell = log_sink(resources.settings.log, resources.origin)
    broadcast = Broadcast(holder.run_id, () if tell is None else (tell,))
    peers = Peers(
        resources.record(),
        emit=broadcast.emit,
        warn=lambda message: broadcast.emit(Warned(message=message)),
    )
    deadline = time.monotonic() + resources.settings.lock_timeout_seconds

    # A loop of its own: this may be called where one runs already.
    with start_blocking_portal() as portal, ExitStack() as held:
        for lock in resources.locks(holder):

            async def between_tries(waited_seconds: float, lock: Lock = lock) -> bool:
                peers.tell_waiting(lock.name, waited_seconds)
                return False

            left = max(0.0, deadline - time.monotonic())
            holding = hold(lock, timeout_seconds=left, between_tries=between_tries)
            try:
                held.enter_context(portal.wrap_async_context_manager(holding))
            except LockTimeout as timeout:
                raise peers.named(timeout, timeout.waited_seconds) from None
        yield
