"""A whole `env.py`, for new projects: one call of `run_migrations`.

    from orchestrator.environment import run_migrations
    from app.database import metadata

    run_migrations(target_metadata=metadata)

It works online and offline (`--sql`), inside the orchestrator and under the plain `alembic`
command, which then takes the same file lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from alembic import context
from anyio.from_thread import start_blocking_portal
from sqlalchemy import MetaData, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from orchestrator.alembic_config import PLACEHOLDER
from orchestrator.broadcast import log_to_host
from orchestrator.database_url import synchronous
from orchestrator.errors import ConfigurationError
from orchestrator.peers import Peers
from orchestrator.resources import Resources
from orchestrator.revisions.context import ATTRIBUTE
from orchestrator.settings import load
from orchestrator.waiting import acquire


def run_migrations(
    target_metadata: MetaData | Sequence[MetaData] | None = None, **options: Any
) -> None:
    """Run what Alembic was asked for, on the database that it or the orchestrator names.

    The URL is the Alembic config's `sqlalchemy.url`, else the orchestrator's setting
    `database_url`. `options` go to `context.configure()`; on SQLite `render_as_batch` is on
    unless they say otherwise. Raises `ConfigurationError` where no URL is known.
    """
    inside = context.config.attributes.get(ATTRIBUTE, False)
    written = context.config.get_alembic_option("sqlalchemy.url")
    placeholder = written is not None and written.startswith(PLACEHOLDER)
    resources = Resources(load(database_url=None if placeholder else written))
    if not resources.names_database:
        raise ConfigurationError(
            "No database URL is known. Set `database_url` (or --database-url, "
            "ORCHESTRATOR_DATABASE_URL, DATABASE_URL), such as sqlite:///var/app.db.",
            setting="database_url",
        )
    url = resources.url
    options.setdefault("render_as_batch", url.get_backend_name() == "sqlite")
    if context.is_offline_mode():
        _offline(url, target_metadata, options)
    elif inside:
        _online(url, target_metadata, options)
    else:
        resources.prepare()
        with _locked(resources):
            _online(url, target_metadata, options)


def _online(url: URL, target_metadata: Any, options: dict[str, Any]) -> None:
    engine = create_engine(synchronous(url), poolclass=NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=target_metadata, **options)
        with context.begin_transaction():
            context.run_migrations()


def _offline(url: URL, target_metadata: Any, options: dict[str, Any]) -> None:
    context.configure(
        url=synchronous(url).render_as_string(hide_password=False),
        target_metadata=target_metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
        **options,
    )
    with context.begin_transaction():
        context.run_migrations()


@contextmanager
def _locked(resources: Resources) -> Iterator[None]:
    """Hold the lock that the orchestrator's runs hold. Raises `LockTimeout`."""
    lock = resources.lock()
    peers = Peers(resources.record(), emit=log_to_host)

    async def between_tries(waited_seconds: float) -> bool:
        peers.tell_waiting(lock.name, waited_seconds)
        return False

    # A loop of its own: this may be called where one runs already.
    with start_blocking_portal() as portal:
        portal.call(
            partial(
                acquire,
                lock,
                timeout_seconds=resources.settings.lock_timeout_seconds,
                between_tries=between_tries,
            )
        )
    try:
        yield
    finally:
        lock.release()
