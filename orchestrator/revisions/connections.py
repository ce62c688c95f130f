"""What `env.py` connects to, asked before anything is done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import NoSuchModuleError

from orchestrator.databases import kind_of
from orchestrator.databases.base import Database
from orchestrator.databases.url import redact, unknown_url
from orchestrator.errors import ConfigurationError, OrchestratorError, by_setting
from orchestrator.revisions.config import AlembicProject
from orchestrator.revisions.environment_context import (
    Arguments,
    PassContext,
    PassOptions,
    env_py_ready,
)
from orchestrator.revisions.scripts import Scripts, load
from orchestrator.revisions.task_errors import explain_env_py

_PLACEHOLDER: Final = "sqlalchemy.dialects:driver"
"""The dialect that the URL names which Alembic's templates have."""


class _Seen(BaseException):
    """What was asked is known; rolls back what `env.py` itself did."""


def url_of_env_py(project: AlembicProject, arguments: Arguments) -> str:
    """The URL, with its secrets, of the database that `env.py` connects to of itself.

    Raises `ConfigurationError` where it knows none.
    """
    try:
        loaded = load(project)
    except ConfigurationError as error:
        raise unknown_url(f" Nor can env.py be asked for one: {error}") from error
    return _own_url(loaded, arguments).render_as_string(hide_password=False)


def _own_url(scripts: Scripts, arguments: Arguments) -> URL:
    """The URL of the database that `env.py` connects to of itself.

    Nothing is made: where connecting would make the database, the rehearsal ends just before
    that. Raises `ConfigurationError` where `env.py` knows none.
    """
    seen: list[URL] = []

    def migrate(_: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        if context.connection is not None:
            seen.append(context.connection.engine.url)
        raise _Seen

    with env_py_ready(scripts, arguments, None), _absent_databases_told(seen):
        error = _run(scripts, arguments, migrate)
    if seen:
        return seen[-1]
    reason = " Nor does env.py tell one."
    if isinstance(error, NoSuchModuleError) and _PLACEHOLDER in str(error):
        reason = (
            " The Alembic config still has `sqlalchemy.url = driver://…`, which `alembic init` "
            "wrote to be replaced."
        )
    elif error is not None:
        reason += f"\n{explain_env_py(error, scripts, None, began=False, ended=False)}"
    raise unknown_url(reason) from error


def connects_to(scripts: Scripts, options: PassOptions) -> str | None:
    """Where `env.py` connects to, redacted; None where that is the database it was given.

    Nothing is made. Raises `ConfigurationError` where it cannot be run.
    """
    seen: list[str] = []
    there: list[bool] = []

    def migrate(_: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        if context.connection is not None:
            seen.append(redact(context.connection.engine.url))
            there.append(options.database.same_as(context.connection))
        raise _Seen

    absent: list[URL] = []
    ready = env_py_ready(scripts, options, options.database)
    with ready, _absent_databases_told(absent, only=options.database):
        error = _run(scripts, options, migrate)
    if error is not None:
        raise explain_env_py(error, scripts, options.database, began=False, ended=False) from error
    for url in absent:
        seen.append(redact(url))
        there.append(type(options.database)(url).identity == options.database.identity)
    return None if not seen or all(there) else seen[there.index(False)]


def find_scripts(scripts: Scripts, options: PassOptions) -> None:
    """Let `env.py` say where the scripts lie, where the database does not exist.

    It runs until it connects, which would make the database. Only if its text says that it may
    change where they lie: all others tell nothing new by that. Raises `ConfigurationError`.
    """
    if not scripts.may_move:
        return

    def migrate(_: tuple[str, ...], __: MigrationContext) -> Iterator[Any]:
        raise _Seen

    ready = env_py_ready(scripts, options, options.database)
    with ready, _absent_databases_told([], only=options.database):
        error = _run(scripts, options, migrate)
    if error is not None:
        raise explain_env_py(error, scripts, options.database, began=False, ended=False) from error
    scripts.reload()


def has_one_database(scripts: Scripts, options: PassOptions) -> None:
    """Raise `ConfigurationError` if `env.py` migrates several databases; none of them is made."""
    ready = env_py_ready(scripts, options, options.database)
    with ready, absent_databases_empty(options.database):
        only_one_database(scripts, options)


def only_one_database(scripts: Scripts, options: PassOptions) -> None:
    """Raise `ConfigurationError` if `env.py` migrates several databases one after the other.

    To be called by who has made `env.py` ready. Runs it with nothing to migrate.
    """
    seen: list[URL] = []

    def migrate(_: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        if context.connection is not None:
            seen.append(context.connection.engine.url)
        yield from ()

    error = _run(scripts, options, migrate)
    if error is not None:
        raise explain_env_py(error, scripts, options.database, began=False, ended=False) from error
    if len(seen) > 1:
        told = ", ".join(redact(url) for url in seen)
        raise ConfigurationError(
            f"{scripts.directory.env_py_location} migrates more than one database: {told}. A run "
            "has one, which it locks, decides on and proves. Nothing was migrated. Run them one "
            "by one: for each, a copy of alembic.ini whose `databases` names only that one, "
            f"given as {by_setting('alembic_config')}.",
            setting="alembic_config",
        )


def _run(
    scripts: Scripts,
    arguments: Arguments,
    migrate: Callable[[tuple[str, ...], MigrationContext], Iterator[Any]],
) -> BaseException | None:
    """Run `env.py`; returns what it raised of itself."""
    context = PassContext(
        scripts.config,
        scripts.directory,
        fn=migrate,
        destination_rev=arguments.target,
        dont_mutate=True,
        tag=arguments.tag,
    )
    try:
        with context:
            scripts.directory.run_env()
    except (OrchestratorError, KeyboardInterrupt):
        raise
    except BaseException as error:  # noqa: BLE001 - the caller tells it
        return None if isinstance(error, _Seen) else error
    return None


@contextmanager
def absent_databases_empty(database: Database) -> Iterator[None]:
    """Let connecting to a database that does not exist lead to an empty one, and make none.

    By this thread; to the one that is given by any, since `env.py` may carry its work to another.
    """

    def connect(kind: type[Database], _: URL, dialect: Any, *how: Any) -> Any:
        return kind.empty_in_place(dialect, *how)

    with _on_absent(connect, only=database):
        yield


@contextmanager
def _absent_databases_told(seen: list[URL], only: Database | None = None) -> Iterator[None]:
    """Keep databases from being made by connecting to them; their URLs are appended.

    By this thread; that one which is given by any, since `env.py` may carry its work to another.
    """

    def tell(_: type[Database], url: URL, *__: Any) -> None:
        seen.append(url)
        raise _Seen

    with _on_absent(tell, only=only):
        yield


@contextmanager
def _on_absent(connect: Callable[..., Any], *, only: Database | None) -> Iterator[None]:
    """Have a connection that would make a database made by `connect` instead."""
    thread = threading.get_ident()

    def on_connect(dialect: Any, _: Any, args: list[Any], parameters: dict[str, Any]) -> Any:
        kind = kind_of(dialect.name)
        url = kind.made_by(dialect, args, parameters) if kind is not None else None
        if kind is None or url is None:
            return None
        if threading.get_ident() == thread or (only and kind(url).identity == only.identity):
            return connect(kind, url, dialect, args, parameters)
        return None

    event.listen(Engine, "do_connect", on_connect)
    try:
        yield
    finally:
        event.remove(Engine, "do_connect", on_connect)
