"""What is done inside the pass of `env.py`: observe, decide, run the tasks in order."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from orchestrator.databases.base import Database
from orchestrator.decision.job import Command, Job
from orchestrator.decision.plan import Plan, Task, adopts, decide
from orchestrator.decision.state import KnownTarget, Observation
from orchestrator.errors import DatabaseUnavailable, Interrupted, OrchestratorError
from orchestrator.events import (
    Event,
    PlanMade,
    RevisionApplied,
    RevisionStarted,
    StateObserved,
    TaskStarted,
    TaskSucceeded,
)
from orchestrator.results import AppliedRevision, Mark, Revision, TaskResult
from orchestrator.run.heartbeat import At
from orchestrator.tasks import TASKS
from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.migration_context import Environment
    from orchestrator.revisions.scripts import Scripts, Step

_RELATIVE: Final = re.compile(r"(?:^|@)[+-]\d+$")
"""A target that is relative to the version rows."""


@dataclass(kw_only=True, slots=True)
class Outcome:
    """What came of a pass, filled as it goes; what is durable is known only afterwards.

    `defects` are those that were found before anything was done.

    `expected` are the version rows that the end of the pass saw inside its transaction, and
    `created` the schema and name of each table that was made from the metadata. `marked` says
    that there is a table of a mark.
    """

    before: Observation | None = None
    plan: Plan | None = None
    task: Task | None = None
    expected: tuple[str, ...] | None = None
    created: tuple[tuple[str | None, str], ...] = ()
    known: KnownTarget | None = None
    cancelled: bool = False
    ran: list[AppliedRevision] = field(default_factory=list)
    tasks: list[TaskResult] = field(default_factory=list)
    defects: tuple[str, ...] = ()
    at: At | None = None
    marked: bool = False
    committed: bool = False

    def begin_anew(self, kept: Callable[[AppliedRevision], bool]) -> None:
        """Forget what ran and was rolled back: a pass may begin again."""
        self.ran = [one for one in self.ran if kept(one)]
        self.tasks.clear()
        self.at = None


class Work:
    """One job, done in one pass. `cancelled` is asked between steps.

    A cancellation ends the generator instead of raising, so that what has run is committed. Where
    nothing has, it raises `Interrupted`, and nothing of the pass is kept, no version table either.
    """

    def __init__(
        self,
        job: Job,
        *,
        database: Database,
        existed: bool,
        emit: Callable[[Event], object],
        warn: Callable[[str, str | None], object],
        cancelled: Callable[[], bool],
    ) -> None:
        self.outcome = Outcome()
        self._job = job
        self._database = database
        self._existed = existed
        self._emit = emit
        self._warn = warn
        self._cancelled = cancelled

    def __call__(self, environment: Environment) -> Iterator[Step]:
        """The steps of the job, for `run_env_py`."""
        outcome = self.outcome
        observation = self._observe(environment)
        if outcome.ran or outcome.tasks:
            reached = environment.scripts.ancestors(observation.versions)
            down = self._job.command is Command.DOWNGRADE
            outcome.begin_anew(lambda one: (one.revision in reached) is not down)
        if outcome.before is not None and outcome.before.versions != observation.versions:
            self._refuse_relative(observation)
        self._tell(observation)
        if not outcome.defects:
            outcome.defects = self._database.defects(environment.connection)
            for defect in outcome.defects:
                self._warn(defect, None)
        outcome.plan = decide(observation, self._job.policy, self._job.command)
        self._refuse_another(environment, observation, outcome.plan)
        if outcome.plan and self._cancelled():
            raise Interrupted
        divides = self._database.divides if outcome.plan.changes_tables else None
        if divides is not None and outcome.before is observation:
            self._warn(divides, None)
        if outcome.plan:
            self._announce(environment, outcome.plan, observation.versions)
        for task in outcome.plan.tasks:
            yield from self._run(task, environment)
            if outcome.cancelled:
                break
        outcome.expected = environment.versions()

    def _refuse_relative(self, observation: Observation) -> None:
        """Go on with no target that meant something else when the work began."""
        if not _RELATIVE.search(self._job.target):
            return
        raise DatabaseUnavailable(
            f"The work was begun anew, when a part of it was done: the database "
            f"{self._database.shown_url} is at {', '.join(observation.versions) or 'base'}, and "
            f"{self._job.target} meant something else before. Look where it is, and name the "
            "revision itself.",
            url=self._database.shown_url,
        )

    def refuse_absent(self, scripts: Scripts, find_scripts: Callable[[], None]) -> None:
        """Raise what would be refused of a database that does not exist.

        To be called before `env.py` connects to it, since that makes the file. `find_scripts` is
        called where the scripts as they are would lead to a refusal.
        """
        try:
            self._decide_absent(scripts)
        except OrchestratorError:
            find_scripts()
            self._tell(self._observe_absent(scripts))
            self._decide_absent(scripts)

    def _decide_absent(self, scripts: Scripts) -> Plan:
        return decide(self._observe_absent(scripts), self._job.policy, self._job.command)

    def _observe_absent(self, scripts: Scripts) -> Observation:
        return observe(scripts, self._target, exists=False, versions=(), tables=())

    @property
    def _target(self) -> str:
        # What is behind a database is no matter of its state: that is told by the heads.
        return "heads" if self._job.command is Command.DOWNGRADE else self._job.target

    def _tell(self, observation: Observation) -> None:
        if self.outcome.before is None:  # a pass that is begun anew began there, too
            self.outcome.before = observation
        self._emit(
            StateObserved(
                state=observation.state,
                versions=observation.versions,
                target_revisions=observation.target,
                under_lock=True,
            )
        )

    def _observe(self, environment: Environment) -> Observation:
        known = self.outcome.known = environment.known(self._database)
        table, schema = known.version_table, known.version_table_schema
        mark = self._mark(environment, schema)
        observation = observe(
            environment.scripts,
            self._target,
            exists=self._existed,
            versions=environment.versions(),
            tables=self._database.tables(environment.connection, table, schema),
            mark=mark,
            tabled=mark is None or environment.has_version_table,
        )
        environment.mark = observation.mark
        if observation.mark is not None:
            observation = replace(observation, seen=environment.seen(observation.mark))
        if self._job.command is Command.RUN and adopts(observation, self._job.policy):
            found = tuple(map(str, environment.differences()))
            observation = replace(observation, differences=found)
        return observation

    def _mark(self, environment: Environment, schema: str | None) -> Mark | None:
        database, connection = self._database, environment.connection
        if not database.is_marked(connection, schema):
            return None
        self.outcome.marked = True
        return database.mark(connection, schema, environment.version_table)

    def _refuse_another(
        self, environment: Environment, observation: Observation, plan: Plan
    ) -> None:
        """Raise `StateRefused` where what was interrupted is not what is run again, and first.

        There is one mark, and another revision's would take its place.
        """
        mark = observation.mark
        if mark is None or not ({Task.UPGRADE, Task.DOWNGRADE} & set(plan.tasks)):
            return
        runs = self._revisions(environment, plan, observation.versions)
        if [one.revision for one in runs[:1]] != [mark.revision]:
            refusing = replace(self._job.policy, interrupted="refuse")
            decide(observation, refusing, self._job.command)

    def _revisions(
        self, environment: Environment, plan: Plan, versions: tuple[str, ...]
    ) -> tuple[Revision, ...]:
        if Task.UPGRADE in plan.tasks:
            return environment.scripts.pending(self._job.target, versions)
        if Task.DOWNGRADE in plan.tasks:
            rows = environment.versions_as_they_stand()
            return environment.scripts.taken_back(self._job.target, rows)
        return ()

    def _announce(self, environment: Environment, plan: Plan, versions: tuple[str, ...]) -> None:
        runs = self._revisions(environment, plan, versions)
        self._emit(PlanMade(tasks=plan.tasks, revisions=tuple(item.revision for item in runs)))

    def _run(self, task: Task, environment: Environment) -> Iterator[Step]:
        began = time.monotonic()
        self.outcome.task = task
        self._emit(TaskStarted(task=task))
        created = self.outcome.plan and Task.CREATE in self.outcome.plan.tasks
        adopted = task is Task.STAMP and self._job.command is Command.RUN
        context = TaskContext(
            environment=environment,
            # The metadata is what the newest revisions lead to.
            target="heads" if created or adopted else self._job.target,
            versions=environment.versions(),
            purge=self._job.policy.purge,
            mark=self.outcome.before.mark if self.outcome.before else None,
            applied=self._job.policy.applied,
        )
        steps = list(TASKS[task](context))
        total = sum(step.revision is not None for step in steps)
        for position, step in enumerate(steps, start=1):
            # Only between revisions: a table without its stamp would be nobody's.
            if step.revision is not None and self._cancelled():
                if not (self.outcome.ran or self.outcome.tasks):
                    raise Interrupted
                self.outcome.cancelled = True
                return
            yield from self._step(task, step, position, total)
        if task is Task.CREATE:
            self.outcome.created = environment.declared_tables()
        duration = time.monotonic() - began
        self.outcome.tasks.append(TaskResult(task=task, duration_seconds=duration))
        self._emit(TaskSucceeded(task=task, duration_seconds=duration))
        self.outcome.task = None

    def _step(self, task: Task, step: Step, position: int, total: int) -> Iterator[Step]:
        if step.revision is None:
            yield step
            return
        name, description = step.revision.revision, step.revision.description
        self._emit(
            RevisionStarted(
                task=task, revision=name, description=description, position=position, total=total
            )
        )
        began = time.monotonic()
        self.outcome.at = At(task=task, revision=name, since=began)
        yield step
        self.outcome.at = None
        duration = time.monotonic() - began
        self.outcome.ran.append(
            AppliedRevision(revision=name, description=description, duration_seconds=duration)
        )
        self._emit(
            RevisionApplied(
                task=task,
                revision=name,
                description=description,
                position=position,
                total=total,
                duration_seconds=duration,
            )
        )


def observe(
    scripts: Scripts,
    target: str,
    *,
    exists: bool,
    versions: tuple[str, ...],
    tables: tuple[str, ...],
    mark: Mark | None = None,
    tabled: bool = True,
) -> Observation:
    """What was seen of a database, beside what the scripts say of it.

    `tabled` is whether there is a version table, where there is a mark.

    Raises `ConfigurationError` for a target that the scripts do not have.
    """
    unknown = scripts.unknown(versions)
    done = mark is None or scripts.is_done(mark, versions if tabled else None)
    # What is relative is so to the rows, and they say nothing if they are not known.
    wanted = scripts.resolve("heads" if unknown else target, versions)
    return Observation(
        exists=exists,
        tables=tables,
        versions=versions,
        target=wanted,
        unknown=unknown,
        missing=scripts.missing(wanted, versions),
        # One that has ended, and whose process has not come to take the mark away, is none.
        mark=None if done else mark,
    )
