"""What the one process that holds the lock does, in a worker thread: the pass and its proof."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from orchestrator.databases.base import patiently
from orchestrator.databases.url import hide
from orchestrator.decision.plan import Command, Job, Task
from orchestrator.decision.state import DatabaseState
from orchestrator.errors import (
    Interrupted,
    OrchestratorError,
    TaskFailed,
    VerificationFailed,
)
from orchestrator.events import Event
from orchestrator.events import TaskFailed as TaskFailedEvent
from orchestrator.results import AppliedRevision, Ended
from orchestrator.run.resources import Resources
from orchestrator.run.work import Outcome, Work

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Scripts

_EMPTY: Final = (DatabaseState.ABSENT, DatabaseState.EMPTY)


class Leader:
    """One job under the lock. `scripts_loaded` is told the fingerprint of the scripts.

    `cancelled` is asked between revisions, and while the database is busy.
    """

    def __init__(
        self,
        resources: Resources,
        job: Job,
        *,
        emit: Callable[[Event], object],
        cancelled: Callable[[], bool],
        scripts_loaded: Callable[[str], None],
    ) -> None:
        self._resources = resources
        self._database = resources.database
        self._job = job
        self._emit = emit
        self._cancelled = cancelled
        self._scripts_loaded = scripts_loaded
        self.outcome = Outcome()
        self.found: tuple[str, ...] = ()

    def lead(self) -> Ended:
        """Do the job, and prove it on a fresh connection.

        Raises an `OrchestratorError` whose `applied` says what is durable all the same.
        """
        scripts = self._resources.scripts()
        self._scripts_loaded(scripts.fingerprint)
        error = self._run(scripts)
        outcome = self.outcome
        try:
            self.found = found = self._found()
        except OrchestratorError as unseen:
            if error is None:
                raise self._unseen(unseen) from unseen
            failure = self._explained(error, scripts, None, ())
            raise failure from failure.__cause__
        applied = self._durable(scripts, found)
        if error is None and not outcome.cancelled:
            error = self._disproof(scripts, found)
        if error is not None:
            error = self._explained(error, scripts, found, applied)
            error.applied = applied
            raise error
        ended = Ended(
            versions=found,
            state_before=outcome.before.state if outcome.before else None,
            applied=applied,
            tasks=tuple(outcome.tasks),
            led=bool(outcome.plan),
            cancelled=outcome.cancelled,
        )
        self._remember(scripts, ended)
        return ended

    def _run(self, scripts: Scripts) -> Any:
        """Run the pass; returns what was raised instead of raising it."""
        from orchestrator.revisions.context import PassOptions  # imports Alembic
        from orchestrator.revisions.env_py import run_env_py

        settings = self._resources.settings
        work = Work(
            self._job,
            database=self._database,
            existed=self._database.exists(),
            emit=self._emit,
            cancelled=self._cancelled,
        )
        self.outcome = work.outcome
        options = PassOptions(
            database=self._database,
            target=self._job.target,
            transaction=settings.transaction,
            busy_seconds=settings.connect_timeout_seconds,
            x_arguments=settings.x_args,
            tag=settings.tag,
            interrupted=self._interrupted,
        )
        try:
            if not self._database.exists():
                work.refuse_absent(scripts)
            run_env_py(scripts, work, options)
        except Interrupted:
            self.outcome.cancelled = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the proof comes first
            return error
        return None

    def _interrupted(self) -> None:
        if self._cancelled():
            raise Interrupted

    def _found(self) -> tuple[str, ...]:
        """The version rows, asked of the database on a connection of our own."""
        known = self.outcome.known
        if known is None or not self._database.exists():
            return ()

        def ask() -> tuple[str, ...]:
            with self._database.connect() as connection:
                table, schema = known.version_table, known.version_table_schema
                return self._database.version_rows(connection, table, schema) or ()

        return patiently(
            ask,
            timeout_seconds=self._resources.settings.connect_timeout_seconds,
            interrupted=lambda: None,
        )

    def _durable(self, scripts: Scripts, found: tuple[str, ...]) -> tuple[AppliedRevision, ...]:
        if not self.outcome.ran:
            return ()
        reached = scripts.ancestors(found)
        down = self._job.command is Command.DOWNGRADE
        return tuple(one for one in self.outcome.ran if (one.revision in reached) is not down)

    def _disproof(self, scripts: Scripts, found: tuple[str, ...]) -> VerificationFailed | None:
        """What contradicts the success that the pass claims."""
        expected = self.outcome.expected
        if expected is None or set(expected) != set(found):
            return self._unproven(expected or (), found, "The work was not kept")
        plan, before = self.outcome.plan, self.outcome.before
        if not plan or before is None or self._job.command not in (Command.RUN, Command.UPGRADE):
            return None
        if scripts.missing(before.target, found):
            return self._unproven(before.target, found, "The target was not reached")
        return None

    def _unseen(self, unseen: OrchestratorError) -> OrchestratorError:
        """The error of a run whose work went well, and that could not look at it afterwards."""
        if not self.outcome.plan:
            return unseen
        expected = self.outcome.expected or ()
        reason = unseen.__cause__ or type(unseen).__name__
        return VerificationFailed(
            f"The work was done, but cannot be proved: the database "
            f"{self._database.shown_url} could not be asked afterwards ({reason}). It should be "
            f"at {', '.join(expected) or 'base'}. Start again: a run that finds it there does "
            "nothing more.",
            expected=expected,
        )

    def _unproven(
        self, expected: tuple[str, ...], found: tuple[str, ...], what: str
    ) -> VerificationFailed:
        return VerificationFailed(
            f"{what}: the database {self._database.shown_url} should be at "
            f"{', '.join(expected) or 'base'}, and is at {', '.join(found) or 'base'}. "
            "Something rolled the transaction back: see whether env.py or a revision swallows "
            "an error.",
            expected=expected,
            found=found,
        )

    def _explained(
        self,
        error: Exception,
        scripts: Scripts,
        found: tuple[str, ...] | None,
        applied: tuple[AppliedRevision, ...],
    ) -> OrchestratorError:
        """The error as the caller gets it; the failed task is told as an event, too.

        Where the database could not be asked (`found` is None), nothing is said to be intact.
        """
        before = self.outcome.before.versions if self.outcome.before else ()
        # A commit in the middle of a revision keeps half of it, and no version row tells.
        committed = getattr(error, "committed", False)
        rolled_back = (
            found is not None and set(before) == set(found) and not applied and not committed
        )
        raised = self._translated(error, scripts, found or (), rolled_back)
        if isinstance(raised, TaskFailed):
            raised.rolled_back = rolled_back
        task = self.outcome.task
        if task is not None:
            revision = getattr(raised, "revision", None)
            report = raised.report()
            self._emit(
                TaskFailedEvent(
                    task=task,
                    revision=revision,
                    error=report.type,
                    message=report.message,
                    rolled_back=rolled_back,
                    file=getattr(raised, "file", None),
                    line=getattr(raised, "line", None),
                )
            )
        return raised

    def _translated(
        self, error: Exception, scripts: Scripts, found: tuple[str, ...], rolled_back: bool
    ) -> OrchestratorError:
        from orchestrator.revisions.env_py import StepFailed  # imports Alembic
        from orchestrator.revisions.failure import explain_task

        if isinstance(error, OrchestratorError):
            return error
        cause = error.error if isinstance(error, StepFailed) else error
        unavailable = self._database.explain(cause)
        if unavailable is not None and not unavailable.busy:
            return unavailable
        step = error.step.revision if isinstance(error, StepFailed) else None
        before = self.outcome.before
        told = explain_task(
            cause,
            scripts,
            task=self.outcome.task or Task.UPGRADE,
            revision=step,
            rolled_back=rolled_back,
            was_empty=before is not None and before.state in _EMPTY,
            advice=error.advice if isinstance(error, StepFailed) else None,
        )
        message = hide(str(told), self._database.url)
        target = before.target if before else ()
        if isinstance(told, VerificationFailed) or getattr(error, "swallowed", False):
            failure: OrchestratorError = VerificationFailed(
                f"{message}\nExpected {', '.join(target) or 'base'}, found "
                f"{', '.join(found) or 'base'}.",
                expected=target,
                found=found,
            )
        else:
            told.args = (message,)
            failure = told
        failure.__cause__ = cause
        return failure

    def _remember(self, scripts: Scripts, ended: Ended) -> None:
        """Write down the target for warm starts, if that is where the database is."""
        outcome = self.outcome
        before, known = outcome.before, outcome.known
        if self._job.command is not Command.RUN or ended.cancelled or not (before and known):
            return
        if before.unknown or not ended.versions or scripts.missing(before.target, ended.versions):
            return
        self._resources.heads().store(
            replace(known, versions=ended.versions), scripts.locations(), scripts.fingerprint
        )
