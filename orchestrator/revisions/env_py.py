"""The one pass of `env.py`: everything that touches the schema happens inside it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from io import StringIO
from typing import Any, Final

from alembic import context as context_module
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationStep
from alembic.script import ScriptDirectory
from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from orchestrator import database_url
from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Interrupted,
    OrchestratorError,
)
from orchestrator.revisions.environment import Environment
from orchestrator.revisions.host_logging import host_logging_kept
from orchestrator.revisions.scripts import Scripts, Step, where
from orchestrator.revisions.sqlite import SQLiteTransaction, is_busy

ATTRIBUTE: Final = "orchestrator"
"""The key of `config.attributes` by which an `env.py` can tell that it runs inside a pass."""

_ONE_AT_A_TIME: Final = threading.Lock()  # Alembic keeps its context in module globals


class _Rehearsed(BaseException):
    """A rehearsal has seen what it wanted; rolls back what `env.py` itself did."""


class _VersionsMoved(BaseException):
    """The version rows changed between Alembic's look and the beginning of the transaction."""


class StepFailed(Exception):
    """A step raised `error`; `swallowed` says that `env.py` kept it to itself."""

    def __init__(self, step: Step, error: BaseException) -> None:
        super().__init__(str(error))
        self.step = step
        self.error = error
        self.swallowed = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PassOptions:
    """How `env.py` is run. `interrupted` raises `Interrupted` when the pass should end."""

    url: URL
    target: str
    transaction: str = "env"
    busy_seconds: float = 30.0
    interrupted: Callable[[], None] = lambda: None


Work = Callable[[Environment], Iterator[Step]]


class _EnvironmentContext(EnvironmentContext):
    """Alembic's context, with the options that must win over those that `env.py` sets."""

    def __init__(
        self, config: Config, script: ScriptDirectory, *, transaction: str = "env", **options: Any
    ) -> None:
        super().__init__(config, script, **options)
        self._transaction_setting = transaction

    def configure(self, connection: Connection | None = None, *args: Any, **options: Any) -> None:
        if self._transaction_setting in ("run", "revision"):
            options["transaction_per_migration"] = self._transaction_setting == "revision"
            options["transactional_ddl"] = True
        elif self._transaction_setting == "env" and _is_sqlite(connection):
            # SQLite has transactional DDL; Alembic only assumes the driver spoils it.
            options.setdefault("transactional_ddl", True)
        super().configure(connection, *args, **options)


# The names of `alembic.context`, which `env.py` imports, stand for a context of this class, too.
_EnvironmentContext.create_module_class_proxy(vars(context_module), vars(context_module))


def run_env_py(
    scripts: Scripts, work: Work, options: PassOptions, *, rehearse: bool = False
) -> None:
    """Run `env.py` with `work` as what it migrates.

    `work` is a generator of steps that is resumed after each, when its version row is written.
    In a rehearsal its first step, or its end, rolls back everything, and nothing was written.

    Raises `StepFailed` for a revision that raised, `Interrupted`, what `work` raises,
    `DatabaseUnavailable`, and `ConfigurationError` for an `env.py` that cannot be run.
    """
    _give_url(scripts, options.url)
    with _one_pass(options), host_logging_kept():
        deadline = time.monotonic() + options.busy_seconds
        while True:
            passing = _Pass(scripts, work, options, rehearse=rehearse)
            try:
                passing.run()
                return
            except (_VersionsMoved, _Rehearsed) as end:
                if isinstance(end, _Rehearsed):
                    return
            except DatabaseUnavailable as error:
                if passing.began or not error.busy or time.monotonic() > deadline:
                    raise
            options.interrupted()


class _Pass:
    def __init__(
        self, scripts: Scripts, work: Work, options: PassOptions, *, rehearse: bool
    ) -> None:
        self.began = False
        self._scripts = scripts
        self._work = work
        self._options = options
        self._rehearse = rehearse
        self._transaction: SQLiteTransaction | None = None
        self._failure: BaseException | None = None

    def run(self) -> None:
        context = _EnvironmentContext(
            self._scripts.config,
            self._scripts.directory,
            fn=self._migrate,
            destination_rev=self._options.target,
            dont_mutate=True,
            transaction=self._options.transaction,
        )
        try:
            with context:
                self._scripts.directory.run_env()
        except (Interrupted, _Rehearsed, _VersionsMoved, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise self._explain(error) from error
        finally:
            if self._transaction is not None:
                self._transaction.abandon()
        if self._failure is not None:  # and env.py swallowed it
            if isinstance(self._failure, StepFailed):
                self._failure.swallowed = True
            raise self._failure
        if not self.began:
            raise ConfigurationError(
                f"{self._scripts.directory.env_py_location} never called "
                "context.run_migrations(), so nothing was migrated.",
                setting="script_location",
            )

    def _migrate(self, heads: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        """What Alembic takes as `fn`: called by `context.run_migrations()`."""
        try:
            yield from self._guarded(heads, context)
        except GeneratorExit:
            raise
        except BaseException as error:
            self._failure = error
            raise

    def _guarded(self, heads: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        if self.began:
            raise ConfigurationError(
                f"{self._scripts.directory.env_py_location} runs migrations on more than one "
                "database. Run them one by one: give each its own `database_url`, and let "
                "env.py migrate only that one."
            )
        self.began = True
        environment = Environment(context, self._scripts)
        self._check_database(environment.connection)
        transaction = self._begin(context, heads)
        has_version_table = bool(heads)
        for step in self._work(environment):
            if self._rehearse:
                raise _Rehearsed
            if not has_version_table:
                environment.create_version_table()
                has_version_table = True
            yield self._watched(step, transaction, context)
        if self._rehearse:
            raise _Rehearsed
        if transaction is not None:
            transaction.check_foreign_keys("the migration")
            transaction.commit()

    def _begin(self, context: MigrationContext, heads: tuple[str, ...]) -> SQLiteTransaction | None:
        connection = context.connection
        if self._options.transaction == "off" or not _is_sqlite(connection) or connection is None:
            return None
        transaction = SQLiteTransaction(
            connection,
            url=database_url.redact(self._options.url),
            busy_seconds=self._options.busy_seconds,
            interrupted=self._options.interrupted,
        )
        if self._rehearse:
            return None
        self._transaction = transaction
        transaction.begin()
        # Alembic read the rows before the transaction began, and goes by what it read.
        if set(context.get_current_heads()) != set(heads):
            raise _VersionsMoved
        return transaction

    def _watched(
        self, step: Step, transaction: SQLiteTransaction | None, context: MigrationContext
    ) -> MigrationStep:
        """The step, told apart when it raises: Alembic's loop does not tell its generator."""
        migrate = step.alembic.migration_fn

        @wraps(migrate)
        def watched(**arguments: Any) -> None:
            try:
                if transaction is not None:
                    transaction.before_step()
                migrate(**arguments)
                if transaction is not None:
                    transaction.after_step()
                    if context._transaction_per_migration:
                        transaction.check_foreign_keys(f"revision {step.revision}")
            except (KeyboardInterrupt, OrchestratorError):
                raise
            except BaseException as error:
                self._failure = StepFailed(step, error)
                raise

        step.alembic.migration_fn = watched
        return step.alembic

    def _check_database(self, connection: Connection) -> None:
        found = connection.engine.url
        if not database_url.same_database(found, self._options.url):
            raise ConfigurationError(
                f"{self._scripts.directory.env_py_location} connects to "
                f"{database_url.redact(found)}, but the orchestrator's database is "
                f"{database_url.redact(self._options.url)}. Nothing was changed. Make both name "
                "the same database.",
                setting="database_url",
            )

    def _explain(self, error: BaseException) -> BaseException:
        if self._failure is not None:
            return self._failure
        if isinstance(error, OrchestratorError):
            return error
        shown = database_url.redact(self._options.url)
        text = database_url.hide(str(error), self._options.url)
        if is_busy(error):
            return DatabaseUnavailable(
                f"The database {shown} is busy with another writer: {text}.", url=shown, busy=True
            )
        if isinstance(error, DBAPIError) and not self.began:
            return DatabaseUnavailable(f"env.py could not connect to {shown}: {text}.", url=shown)
        file, line = where(error, self._scripts.directory.dir)
        return ConfigurationError(
            f"env.py failed: {type(error).__name__}: {text} ({file}, line {line}).",
            setting="script_location",
        )


def write_sql(scripts: Scripts, work: Work, options: PassOptions, versions: tuple[str, ...]) -> str:
    """The SQL that `work` would execute on a database at these versions, by `env.py` offline.

    Raises `ConfigurationError` where a revision cannot be written down.
    """
    output = StringIO()
    _give_url(scripts, options.url)

    def migrate(heads: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        for step in work(Environment(context, scripts)):
            yield step.alembic

    context = _EnvironmentContext(
        scripts.config,
        scripts.directory,
        fn=migrate,
        as_sql=True,
        starting_rev=versions or None,
        destination_rev=options.target,
        output_buffer=output,
    )
    with _one_pass(options), host_logging_kept(), context:
        try:
            scripts.directory.run_env()
        except OrchestratorError:
            raise
        except Exception as error:
            file, line = where(error, scripts.directory.dir)
            raise ConfigurationError(
                f"The SQL cannot be written: {type(error).__name__}: {error} "
                f"({file}, line {line}). Migrations that read the database cannot be written down."
            ) from error
    return output.getvalue()


@contextmanager
def _one_pass(options: PassOptions) -> Iterator[None]:
    while not _ONE_AT_A_TIME.acquire(timeout=0.05):
        options.interrupted()
    try:
        yield
    finally:
        _ONE_AT_A_TIME.release()


def _give_url(scripts: Scripts, url: URL) -> None:
    """Let `env.py` find the orchestrator's URL, unless its own names the same database."""
    config = scripts.config
    config.attributes[ATTRIBUTE] = True
    own = config.get_main_option("sqlalchemy.url")
    try:
        if own and database_url.same_database(database_url.parse(own), url):
            return
    except ConfigurationError:
        pass  # a placeholder, as Alembic's templates have
    text = url.render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", text.replace("%", "%%"))


def _is_sqlite(connection: Connection | None) -> bool:
    return connection is not None and connection.dialect.name == "sqlite"
