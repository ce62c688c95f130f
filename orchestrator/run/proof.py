"""What came of a pass: whether its work has lasted, and what is said where it has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from orchestrator.databases.base import Database
from orchestrator.databases.quoting import told as quoted
from orchestrator.databases.quoting import without_secrets
from orchestrator.decision.job import Command, Job
from orchestrator.decision.plan import Task
from orchestrator.decision.state import DatabaseState
from orchestrator.errors import (
    DatabaseUnavailable,
    OrchestratorError,
    TaskFailed,
    VerificationFailed,
)
from orchestrator.results import AppliedRevision
from orchestrator.run.work import Outcome

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Scripts

_EMPTY: Final = (DatabaseState.ABSENT, DatabaseState.EMPTY)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a fresh connection finds: the version rows; which tables it should find and does not.

    `tabled` is whether there is a version table.
    """

    versions: tuple[str, ...] = ()
    tabled: bool = False
    lacking: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()


class Proof:
    """The outcome of a pass, held against what a fresh connection finds.

    `found` is None where the database could not be asked: then nothing is said to be intact.
    """

    def __init__(
        self,
        outcome: Outcome,
        job: Job,
        scripts: Scripts,
        database: Database,
        *,
        found: Found | None,
    ) -> None:
        self._outcome = outcome
        self._job = job
        self._scripts = scripts
        self._database = database
        self._found = found.versions if found is not None else None
        self._lacking = found.lacking if found is not None else ()

    def durable(self) -> tuple[AppliedRevision, ...]:
        """Those of the revisions that ran that the version rows tell of."""
        if not self._outcome.ran or self._found is None:
            return ()
        reached = self._scripts.ancestors(self._found)
        down = self._job.command is Command.DOWNGRADE
        return tuple(one for one in self._outcome.ran if (one.revision in reached) is not down)

    def disproof(self) -> VerificationFailed | None:
        """What contradicts the success that the pass claims."""
        expected, found = self._outcome.expected, self._found or ()
        if expected is None:
            # What was cancelled before it began anything has claimed nothing.
            return None if self._outcome.cancelled else self._unended()
        if set(expected) != set(found):
            return self._unproven(expected, "The work was not kept")
        if self._lacking:
            return self._unproven(
                expected,
                f"Not all that was created is there: {', '.join(self._lacking)} is lacking",
            )
        plan, before = self._outcome.plan, self._outcome.before
        if (
            self._outcome.cancelled
            or not plan
            or before is None
            or self._job.command not in (Command.RUN, Command.UPGRADE)
        ):
            return None
        if self._scripts.missing(before.target, found):
            return self._unproven(before.target, "The target was not reached")
        return None

    def unseen(self, unavailable: OrchestratorError) -> OrchestratorError:
        """The error of a run whose work went well, and that could not look at it afterwards."""
        if not self._outcome.plan:
            return unavailable
        expected = self._outcome.expected or ()
        cause = unavailable.__cause__
        reason = quoted(cause, self._database.secrets) if cause else type(unavailable).__name__
        return VerificationFailed(
            f"The work was done, but cannot be proved: the database "
            f"{self._database.shown_url} could not be asked afterwards ({reason}). It should be "
            f"at {', '.join(expected) or 'base'}. Start again: a run that finds it there does "
            "nothing more.",
            expected=expected,
        )

    def rolled_back(self, error: Exception) -> bool:
        """Whether the database is as it was before the run."""
        before = self._outcome.before.versions if self._outcome.before else ()
        # A commit in the middle of a revision keeps half of it, and no version row tells.
        committed = getattr(error, "committed", False) or self._outcome.committed
        as_before = self._found is not None and set(before) == set(self._found)
        return as_before and not self.durable() and not committed

    def explained(self, error: Exception) -> OrchestratorError:
        """The error as the caller gets it, with what is durable all the same."""
        told = without_secrets(self._translated(error), self._database.secrets)
        if isinstance(told, TaskFailed):
            told.rolled_back = self.rolled_back(error)
        told.applied = self.durable()
        if isinstance(told, DatabaseUnavailable):
            told.say(self._intact(error))
        return told

    def _intact(self, error: Exception) -> str:
        from orchestrator.revisions.steps import StepFailed  # imports Alembic
        from orchestrator.revisions.task_errors import KEPT

        if self.rolled_back(error):
            return "Nothing was changed."
        failed = error if isinstance(error, StepFailed) else None
        if failed is None or not failed.divided or failed.step.revision is None:
            return KEPT
        account = self._database.secrets.quote(failed.account or "") or ""
        told = f"Revision {failed.step.revision.revision} may be half done. {account}".rstrip()
        return f"{told} {failed.advice or ''}".rstrip()

    def _unproven(self, expected: tuple[str, ...], what: str) -> VerificationFailed:
        found = self._found or ()
        return VerificationFailed(
            f"{what}: the database {self._database.shown_url} should be at "
            f"{', '.join(expected) or 'base'}, and is at {', '.join(found) or 'base'}. "
            "That is not what the run wrote: something rolled it back, or changed it afterwards. "
            "See whether env.py or a revision swallows an error, or anything else writes to "
            "the database or replaces it.",
            expected=expected,
            found=found,
        )

    def _unended(self) -> VerificationFailed:
        found = self._found or ()
        return VerificationFailed(
            f"The work had not ended when env.py did: the database {self._database.shown_url} is "
            f"at {', '.join(found) or 'base'}, and what is not committed is not kept. See whether "
            "env.py hands the work to a thread and does not wait for it, or swallows an error.",
            found=found,
        )

    def _translated(self, error: Exception) -> OrchestratorError:
        from orchestrator.revisions.steps import StepFailed  # imports Alembic
        from orchestrator.revisions.task_errors import explain_task

        if isinstance(error, OrchestratorError):
            return error
        failed = error if isinstance(error, StepFailed) else None
        cause = failed.error if failed is not None else error
        unavailable = self._database.explain(cause)
        # A statement of a revision that finds the database busy is in its own way, as a rule.
        if unavailable is not None and (failed is None or not unavailable.busy):
            return unavailable
        before, found = self._outcome.before, self._found or ()
        told = explain_task(
            cause,
            self._scripts,
            self._database.secrets,
            task=self._outcome.task or Task.UPGRADE,
            revision=failed.step.revision if failed is not None else None,
            rolled_back=self.rolled_back(error),
            was_empty=before is not None and before.state in _EMPTY,
            had_tables=before is not None and before.state is DatabaseState.UNVERSIONED,
            account=failed.account if failed is not None else None,
            advice=failed.advice if failed is not None else self._database.advice(cause),
        )
        if isinstance(told, VerificationFailed) or (failed is not None and failed.swallowed):
            target = before.target if before else ()
            told = VerificationFailed(
                f"{told}\nExpected {', '.join(target) or 'base'}, found "
                f"{', '.join(found) or 'base'}.",
                expected=target,
                found=found,
            )
        told.__cause__ = cause
        return told
