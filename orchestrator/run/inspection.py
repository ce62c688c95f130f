"""Looking without touching: what `inspect`, `plan` and `check` do, and `follow` begins with."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from orchestrator.decision.job import Command, Policy
from orchestrator.decision.plan import Task, adopts, decide
from orchestrator.decision.state import KnownTarget, Observation
from orchestrator.errors import OrchestratorError, StateRefused
from orchestrator.locks.file import is_held
from orchestrator.results import Difference, Drop, Inspection, LockReport, Preview, Revision
from orchestrator.run.resources import Resources
from orchestrator.run.warm_start import probe_known
from orchestrator.run.work import observe
from orchestrator.tasks import TASKS
from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.changes import Change
    from orchestrator.revisions.migration_context import Environment
    from orchestrator.revisions.scripts import Scripts, Step


class View:
    """A database seen through its `env.py`, in a rehearsal that rolls back whatever it did."""

    def __init__(
        self, resources: Resources, scripts: Scripts, *, target: str | None = None
    ) -> None:
        self.known: KnownTarget | None = None
        self.differences: tuple[Difference, ...] | None = None
        """What a comparison with the metadata found; None where there was none."""
        self.rows: tuple[str, ...] = ()
        """The version rows in the table's own order."""
        self.target = target or resources.settings.target
        self._resources = resources
        self._scripts = scripts

    def look(
        self,
        *,
        compared: Callable[[Observation], bool] = lambda _: False,
        there: str = "the database",
    ) -> Observation:
        """Observe the database. An absent one is not connected to: that would make the file.

        Where it is to be `compared`, it is compared with the metadata, and told as `there`.
        """
        from orchestrator.revisions.connections import find_scripts  # imports Alembic
        from orchestrator.revisions.env_py import run_env_py
        from orchestrator.revisions.task_errors import explain_env_py

        options = self._resources.pass_options(self.target)
        probe_known(self._resources, options.patience)  # tells what is no database at all
        if not self._resources.database.exists():
            find_scripts(self._scripts, options)
            return self._observe(exists=False, versions=(), tables=())
        seen: list[Observation] = []

        def work(environment: Environment) -> Iterator[Step]:
            database, connection = self._resources.database, environment.connection
            known = self.known = environment.known(database)
            table, schema = known.version_table, known.version_table_schema
            marked = database.is_marked(connection, schema)
            self.rows = environment.versions_as_they_stand()
            mark = database.mark(connection, schema, table) if marked else None
            observation = self._observe(
                exists=True,
                versions=environment.versions(),
                tables=database.tables(connection, table, schema),
                mark=mark,
                tabled=mark is None or environment.has_version_table,
            )
            if observation.mark is not None:
                observation = replace(observation, seen=environment.seen(observation.mark))
            if compared(observation):
                self.differences = environment.differences(there=there)
                found = tuple(map(str, self.differences))
                observation = replace(observation, differences=found)
            seen.append(observation)
            yield from ()

        try:
            run_env_py(self._scripts, work, options, rehearse=True)
        except OrchestratorError:
            raise
        except Exception as error:  # of the comparison, or of the database
            raise explain_env_py(
                error, self._scripts, self._resources.database, began=False, ended=False
            ) from error
        return seen[0]

    def _observe(self, **seen: Any) -> Observation:
        return observe(self._scripts, self.target, **seen)


def inspect(resources: Resources, policy: Policy) -> Inspection:
    """What the database is like and what is pending. Raises an `OrchestratorError`."""
    scripts = resources.scripts()
    observation = View(resources, scripts).look()
    target = resources.settings.target
    pending: tuple[Revision, ...] = ()
    if observation.missing and not observation.unknown:
        pending = scripts.pending(target, observation.versions)
    at_target, refused = False, None
    lock = inspect_lock(resources)
    at_work = observation.mark if lock.held else None
    if at_work is not None:  # what it tells of is no interruption, but under way
        observation = replace(observation, mark=None, seen=())
    # It is not known who compares, nor what becomes of what is under way.
    if at_work is None and not adopts(observation, policy):
        try:
            at_target = not decide(observation, policy)
        except StateRefused as refusal:
            refused = str(refusal)
    return Inspection(
        database=resources.database.shown_url,
        state=observation.state,
        versions=observation.versions,
        unknown=observation.unknown,
        heads=scripts.heads,
        pending=pending,
        at_target=at_target,
        refused=refused,
        interrupted=observation.mark,
        at_work=at_work,
        seen=observation.seen,
        lock=lock,
    )


def inspect_lock(resources: Resources) -> LockReport:
    """Whether the lock is held, and by whom as far as the holder has told.

    What a server tells counts more: on this host somebody may only wait for its leader.
    """
    if resources.database.file is None:
        with resources.database.connect() as connection:
            leads, leader = resources.database.leader(connection)
        if leads:
            return LockReport(held=True, holder=leader)
    held = is_held(resources.directory.lock)
    try:
        record = resources.record().read()
    except ValueError:
        record = None
    running = record.holder if record and record.outcome is None else None
    if not held and running is not None and running.host != socket.gethostname():
        # The kernel lists only the locks of this host, and of this container.
        return LockReport(held=None, holder=running)
    return LockReport(held=held, holder=running if held else None)


def preview(
    resources: Resources, policy: Policy, *, sql: bool, downgrade: str | None = None
) -> Preview:
    """What a run, or a downgrade to a revision, would do now.

    Raises `StateRefused` where it would refuse.
    """
    from orchestrator.revisions.changes import changes  # imports Alembic

    scripts = resources.scripts()
    command = Command.RUN if downgrade is None else Command.DOWNGRADE
    target = resources.settings.target if downgrade is None else downgrade
    # What is behind a database is no matter of its state: that is told by the heads.
    view = View(resources, scripts, target=None if downgrade is None else "heads")
    observation = view.look(compared=lambda seen: command is Command.RUN and adopts(seen, policy))
    plan = decide(observation, policy, command)
    versions = observation.versions if downgrade is None else view.rows
    revisions: tuple[Revision, ...] = ()
    if Task.UPGRADE in plan.tasks:
        revisions = scripts.pending(target, versions)
    elif Task.DOWNGRADE in plan.tasks:
        revisions = scripts.taken_back(target, versions)
    made_or_dropped = changes(scripts, revisions, downgrade=downgrade is not None)
    return Preview(
        state=observation.state,
        tasks=plan.tasks,
        revisions=revisions,
        drops=_drops(made_or_dropped, observation),
        sql=_sql(resources, scripts, plan.tasks, target, versions) if sql else None,
        remark=resources.database.divides if plan.changes_tables else None,
    )


def _drops(changes: Iterable[tuple[str, Change]], observation: Observation) -> tuple[Drop, ...]:
    """What goes of what is there: not what one revision makes for another to drop."""
    if not (observation.tables or observation.versions):
        return ()
    tables, made = observation.tables, set[str]()
    drops: list[Drop] = []
    for revision, change in changes:
        if change.made and change.kind == "table":
            made.add(change.table)
        elif change.made or change.kind == "index":
            continue
        elif change.table in tables or change.table not in made:
            drops.append(Drop(table=change.table, column=change.name, revision=revision))
    return tuple(drops)


def _sql(
    resources: Resources,
    scripts: Scripts,
    tasks: tuple[Task, ...],
    target: str,
    versions: tuple[str, ...],
) -> str:
    from orchestrator.revisions.offline import write_sql  # imports Alembic

    def work(environment: Environment) -> Iterator[Step]:
        for task in tasks:
            yield from TASKS[task](
                TaskContext(
                    environment=environment,
                    target=target if task in (Task.UPGRADE, Task.DOWNGRADE) else "heads",
                    versions=versions,
                )
            )

    return write_sql(scripts, work, resources.pass_options(target), versions) if tasks else ""
