"""The steps of a pass: each in its transaction, and told apart when it raises."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial, wraps
from typing import Any

from alembic.runtime.migration import MigrationContext, MigrationStep
from sqlalchemy.exc import PendingRollbackError

from orchestrator.errors import Interrupted, OrchestratorError
from orchestrator.results import Mark
from orchestrator.revisions.environment_context import PassOptions
from orchestrator.revisions.forked import forked_children_ended
from orchestrator.revisions.scripts import Step
from orchestrator.revisions.transactions.base import Aborted, RolledBack, Transaction, WayOut


class NeedsOwnTransactions(WayOut):
    """A revision rolled back what others had done in the one transaction of the pass."""

    def __init__(self, revision: str | None) -> None:
        self.revision = revision


class StepFailed(Exception):
    """A step raised `error`; `swallowed` says that `env.py` kept it to itself.

    `committed` says that a part of the work may have been kept, of this very step perhaps;
    `advice` is what the transaction has to say of it.
    """

    def __init__(
        self,
        step: Step,
        error: BaseException,
        *,
        advice: str | None,
        account: str | None = None,
    ) -> None:
        super().__init__(str(error))
        self.step = step
        self.error = error
        self.committed = self.divided = False
        self.advice = advice
        self.account = account
        self.swallowed = False


def first_of(error: BaseException) -> BaseException:
    """The error that came first, where SQLAlchemy only says that it does not go on after it.

    An `autocommit_block()` sets its connection back at its end, also one that was lost in it.
    """
    while isinstance(error, PendingRollbackError) and error.__context__ is not None:
        error = error.__context__
    return error


def watching(
    transaction: Transaction,
    context: MigrationContext,
    options: PassOptions,
    fail: Callable[[StepFailed | OrchestratorError], None],
) -> Callable[[Step], MigrationStep]:
    """What makes of a step one for Alembic, whose error `fail` is told before it is raised.

    Alembic's loop does not tell its generator, and `env.py` may keep the error to itself.
    """
    return partial(_watched, transaction, context, options, fail)


def _watched(
    transaction: Transaction,
    context: MigrationContext,
    options: PassOptions,
    fail: Callable[[StepFailed | OrchestratorError], None],
    step: Step,
) -> MigrationStep:
    migrate = step.alembic.migration_fn

    @wraps(migrate)
    def watched(**arguments: Any) -> None:
        try:
            transaction.division.at = _mark_of(step, options.process)
            transaction.before_step()
            # A child of it must not even unwind: `env.py` would end its parent's transaction.
            with forked_children_ended():
                migrate(**arguments)
            if transaction.aborted:
                raise Aborted  # whatever the revision made of that
            _end_well(step, transaction, context, options)
        except (WayOut, Interrupted, KeyboardInterrupt):
            raise
        except OrchestratorError as error:
            fail(error)
            raise
        except BaseException as raised:
            first = first_of(raised)
            transaction.failed(first)
            _demand_own_transactions(step, transaction, context, options)
            if (blocked := transaction.blocked(first)) is not None:
                blocked.revision = step.revision.revision if step.revision is not None else None
                raise blocked from first
            advice, account = transaction.advice(first), transaction.account()
            fail(StepFailed(step, first, advice=advice, account=account))
            raise
        finally:
            while transaction.division.remarks:
                options.warn(
                    transaction.division.remarks.pop(0),
                    step.revision.revision if step.revision is not None else None,
                )

    step.alembic.migration_fn = watched
    return step.alembic


def _mark_of(step: Step, process: str) -> Mark | None:
    if step.revision is None:
        return None
    return Mark(
        revision=step.revision.revision,
        down=not step.alembic.is_upgrade,
        began_at=datetime.now(UTC),
        process=process,
    )


def _end_well(
    step: Step, transaction: Transaction, context: MigrationContext, options: PassOptions
) -> None:
    """See to it that the version row is written in a transaction that will be committed."""
    revision = step.revision.revision if step.revision is not None else None
    ended_by = transaction.after_step()
    if ended_by == "rollback":
        _demand_own_transactions(step, transaction, context, options)
        if not context._transaction_per_migration:
            raise RolledBack
        options.warn(
            f"Revision {revision} rolled back its own transaction: what it had done until then "
            "is not kept.",
            revision,
        )
    elif ended_by == "commit":
        options.warn(
            f"Revision {revision} committed the transaction that it ran in, and the run goes "
            "on in a new one. Killed after that commit and before the end, it is left half "
            "done, and the database is then told to be `interrupted`.",
            revision,
        )
    begun = context._transaction
    if begun is not None and not begun.is_active:
        # Alembic holds what the revision ended, and would not commit what is done next.
        connection = transaction.connection
        context._transaction = connection.get_transaction() or connection.begin()
    if ended_by is not None:
        transaction.resume()
    if ended_by == "rollback":
        # The version table may have been made in what was rolled back.
        context._version.create(transaction.connection, checkfirst=True)
    if context._transaction_per_migration and revision is not None:
        transaction.check(revision)


def settle(
    step: Step,
    transaction: Transaction,
    context: MigrationContext,
) -> None:
    """Called when the version row of a step is written: commit one that is divided anyway."""
    begun = context._transaction
    if not transaction.settle() or begun is None or not begun.is_active:
        return
    transaction.check(step.revision.revision if step.revision is not None else None)
    begun.commit()
    # Alembic commits what it holds, in the end.
    context._transaction = transaction.connection.get_transaction() or (
        transaction.connection.begin()
    )


def _demand_own_transactions(
    step: Step, transaction: Transaction, context: MigrationContext, options: PassOptions
) -> None:
    """Begin the pass anew where a revision took back more than was its own."""
    one_for_all = not context._transaction_per_migration and options.transaction == "env"
    if transaction.rolled_back and one_for_all:
        raise NeedsOwnTransactions(step.revision.revision if step.revision is not None else None)
