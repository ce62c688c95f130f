"""The one pass of `env.py`: everything that touches the schema happens inside it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Interrupted,
    OrchestratorError,
)
from orchestrator.revisions.connections import only_one_database
from orchestrator.revisions.environment_context import PassContext, PassOptions, env_py_ready
from orchestrator.revisions.migration_context import Environment
from orchestrator.revisions.retries import Retries
from orchestrator.revisions.scripts import Scripts, Step
from orchestrator.revisions.steps import (
    NeedsOwnTransactions,
    StepFailed,
    first_of,
    settle,
    watching,
)
from orchestrator.revisions.task_errors import explain_env_py
from orchestrator.revisions.transactions import TRANSACTIONS, UNTOUCHED
from orchestrator.revisions.transactions.base import Blocked, Fenced, Transaction, WayOut


class _Rehearsed(WayOut):
    """A rehearsal has seen what it wanted; rolls back what `env.py` itself did."""


class _VersionsMoved(WayOut):
    """The version rows changed between Alembic's look and the beginning of the transaction."""


class _PerhapsSeveral(WayOut):
    """`env.py` looks like one for several databases, and may come to the others later."""


Work = Callable[[Environment], Iterator[Step]]


def run_env_py(
    scripts: Scripts, work: Work, options: PassOptions, *, rehearse: bool = False
) -> None:
    """Run `env.py` with `work` as what it migrates.

    `work` is a generator of steps that is resumed after each, when its version row is written;
    it may be asked for anew, where all of it was rolled back.
    In a rehearsal its first step, or its end, rolls back everything, and nothing was written.

    Raises `StepFailed` for a revision that raised, `Interrupted`, what `work` raises,
    `DatabaseUnavailable`, and `ConfigurationError` for an `env.py` that cannot be run.
    """
    with env_py_ready(scripts, options, options.database):
        retries = Retries(options)
        asked = False
        while True:
            passing = _Pass(scripts, work, options, rehearse=rehearse, asked=asked)
            try:
                passing.run()
                return
            except _Rehearsed:
                return
            except _PerhapsSeveral:
                only_one_database(scripts, options)
                asked = True
            except _VersionsMoved:
                pass
            except NeedsOwnTransactions as error:
                options.warn(
                    f"Revision {error.revision} rolled back the transaction that it ran in, and "
                    "with it what was done before. All is undone, and run again with a "
                    "transaction for each revision.",
                    error.revision,
                )
                options = replace(options, transaction="revision")
            except (Blocked, Fenced) as others:
                retries.pause(others)
            except DatabaseUnavailable as error:
                if passing.began:
                    raise
                retries.pause(error)
            options.patience.interrupted()


class _Pass:
    def __init__(
        self, scripts: Scripts, work: Work, options: PassOptions, *, rehearse: bool, asked: bool
    ) -> None:
        self.began = False
        self._ended = False
        self._scripts = scripts
        self._work = work
        self._options = options
        self._rehearse = rehearse
        self._asked = asked
        self._transaction: Transaction | None = None
        self._failure: BaseException | None = None
        self._step: Step | None = None
        self._attended = ExitStack()

    def run(self) -> None:
        context = PassContext(
            self._scripts.config,
            self._scripts.directory,
            fn=self._migrate,
            destination_rev=self._options.target,
            dont_mutate=True,
            transaction=self._options.transaction,
            tag=self._options.tag,
        )
        try:
            with context:
                self._scripts.directory.run_env()
        except (WayOut, Interrupted, KeyboardInterrupt):
            raise
        except BaseException as raised:  # noqa: BLE001 - raised again, in words
            error = first_of(raised)
            self._raise_blocked(error)
            if self._ended and isinstance(error, DBAPIError) and not self._is_committed:
                # Of the commit, or of what env.py did before it: what came of it tells the proof.
                self._failure = error
                raise error from error.__cause__
            if self._failure is None and self._step is not None and self._is_of_step(error):
                advice = self._transaction.advice(error) if self._transaction else None
                self._failure = StepFailed(self._step, error, advice=advice)
            if self._failure is not None:
                raise self._failure from error
            # An env.py may end its work by sys.exit(), as the `alembic` command lets it.
            if not (self._ended and isinstance(error, SystemExit) and not error.code):
                self._failure = explain_env_py(
                    error,
                    self._scripts,
                    self._options.database,
                    began=self.began,
                    ended=self._ended,
                )
                raise self._failure from error
        finally:
            self._abandon()
        if self._failure is not None:  # and env.py swallowed it
            if isinstance(self._failure, StepFailed):
                self._failure.swallowed = True
            raise self._failure
        if not self.began:
            raise ConfigurationError(
                f"{self._scripts.directory.env_py_location} never called "
                "context.run_migrations(), so nothing was migrated.",
                setting="script_location",
                scripts_failed=True,
            )

    @property
    def _is_committed(self) -> bool:
        """Whether the work was committed at its end, whatever `env.py` did afterwards."""
        return self._transaction is not None and self._transaction.commits_itself

    def _raise_blocked(self, error: BaseException) -> None:
        """Where Alembic was kept out of the version rows, all may be tried again."""
        blocked = self._transaction.blocked(error) if self._transaction is not None else None
        if blocked is not None and self._step is not None and self._failure is None:
            raise blocked from error

    def _abandon(self) -> None:
        self._attended.close()
        if self._transaction is None:
            return
        self._transaction.abandon()
        if isinstance(self._failure, (StepFailed, OrchestratorError)):
            self._failure.committed = self._transaction.committed
        if isinstance(self._failure, StepFailed):
            self._failure.divided = self._transaction.division.divided

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
                f"{self._scripts.directory.env_py_location} runs migrations more than once: on "
                "several databases or schemas. The first is migrated; the next was not touched. "
                "Run them one by one, and let env.py migrate only one in each run."
            )
        environment = Environment(context, self._scripts)
        if environment.perhaps_one_of_several and not self._asked:
            raise _PerhapsSeveral
        self.began = True
        self._scripts.reload()
        environment.check_is(self._options.database)
        transaction = self._begin(environment.connection, context, heads)
        if not self._rehearse:
            self._attended.enter_context(self._options.attend(transaction))
        watched = watching(transaction, context, self._options, self._fail)
        has_version_table = bool(heads)
        for step in self._work(environment):
            if self._rehearse:
                raise _Rehearsed
            if not has_version_table:
                environment.create_version_table()
                has_version_table = True
            if transaction.versions_statement is None:
                environment.check_can_be_proved(self._options.database)
                marker = transaction.division.marker
                marker.schema = environment.found_schema(self._options.database)
                marker.version_table = environment.version_table
                transaction.versions_statement = environment.versions_statement
                transaction.division.found = environment.mark
            self._step = step
            yield watched(step)
            settle(step, transaction, context)
            self._step = None
        if self._rehearse:
            raise _Rehearsed
        if not has_version_table:
            environment.create_version_table()  # as Alembic does, also where nothing is to be run
        transaction.check()
        transaction.end()
        self._ended = True

    def _is_of_step(self, error: BaseException) -> bool:
        """Whether it came at a step's version row or its commit, and nobody was in the way."""
        frames = traceback.extract_tb(error.__traceback__)
        unavailable = self._options.database.explain(error)
        busy = unavailable is not None and unavailable.busy
        at_row = any(frame.name == "update_to_step" for frame in frames)
        return not busy and (at_row or isinstance(error, DBAPIError))

    def _fail(self, error: StepFailed | OrchestratorError) -> None:
        self._failure = error

    def _begin(
        self, connection: Connection, context: MigrationContext, heads: tuple[str, ...]
    ) -> Transaction:
        kinds = UNTOUCHED if self._options.transaction == "off" else TRANSACTIONS
        kind = kinds[connection.dialect.name]
        transaction = kind(
            connection,
            database=self._options.database,
            patience=self._options.patience,
            limit_seconds=self._options.ddl_lock_seconds if self._options.ddl_retry_seconds else 0,
        )
        if self._rehearse:
            return transaction
        self._transaction = transaction
        transaction.begin()
        # Alembic read the rows before the transaction began, and goes by what it read.
        if set(context.get_current_heads()) != set(heads):
            raise _VersionsMoved
        begun = context._transaction is not None or context._in_external_transaction
        each = context._transaction_per_migration or not context.impl.transactional_ddl
        if transaction.commits_itself and not begun and not each:
            # An env.py without begin_transaction(): autocommit_block() asks for one of Alembic's.
            context._transaction = connection.get_transaction() or connection.begin()
        return transaction
