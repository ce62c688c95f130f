"""Looking without touching: what `inspect`, `plan` and the mode `follow` are made of."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator import database, probe
from orchestrator.locks.file import is_held
from orchestrator.plan import Command, Policy, Task, decide
from orchestrator.resources import Resources
from orchestrator.results import Inspection, LockReport, Preview
from orchestrator.state import DatabaseState, KnownTarget, Observation
from orchestrator.tasks import TASKS
from orchestrator.tasks.context import TaskContext
from orchestrator.warm import Ended, probe_known
from orchestrator.work import observe

if TYPE_CHECKING:
    from orchestrator.revisions.environment import Environment
    from orchestrator.revisions.scripts import Scripts, Step


class View:
    """A database seen through its `env.py`, in a rehearsal that rolls back whatever it did."""

    def __init__(self, resources: Resources, scripts: Scripts) -> None:
        self.known: KnownTarget | None = None
        self._resources = resources
        self._scripts = scripts

    def look(self, *, adopts: bool = False) -> Observation:
        """Observe the database. An absent one is not connected to: that would make the file.

        With `adopts`, tables without a version row are compared with the metadata.
        """
        if not database.exists(self._resources.url):
            return self._observe(exists=False, versions=(), tables=())
        from orchestrator.revisions.context import PassOptions  # imports Alembic
        from orchestrator.revisions.env_py import run_env_py

        seen: list[Observation] = []

        def work(environment: Environment) -> Iterator[Step]:
            table, schema = environment.version_table, environment.version_table_schema
            self.known = KnownTarget(versions=(), version_table=table, version_table_schema=schema)
            observation = self._observe(
                exists=True,
                versions=tuple(sorted(environment.versions())),
                tables=probe.tables(environment.connection, table, schema),
            )
            if adopts and observation.state is DatabaseState.UNVERSIONED:
                observation = replace(observation, differences=environment.differences())
            seen.append(observation)
            yield from ()

        settings = self._resources.settings
        options = PassOptions(
            url=self._resources.url,
            target=settings.target,
            busy_seconds=settings.connect_timeout_seconds,
            x_arguments=settings.x_args,
            tag=settings.tag,
        )
        probe_known(self._resources, lambda: None)  # tells what is no database at all
        run_env_py(self._scripts, work, options, rehearse=True)
        return seen[0]

    def _observe(
        self, *, exists: bool, versions: tuple[str, ...], tables: tuple[str, ...]
    ) -> Observation:
        target = self._resources.settings.target
        return observe(self._scripts, target, exists=exists, versions=versions, tables=tables)


def inspect(resources: Resources) -> Inspection:
    """What the database is like and what is pending. Raises an `OrchestratorError`."""
    scripts = resources.scripts()
    observation = View(resources, scripts).look()
    target = resources.settings.target
    pending = () if observation.unknown else scripts.pending(target, observation.versions)
    return Inspection(
        database=resources.shown_url,
        state=observation.state,
        versions=observation.versions,
        heads=scripts.heads,
        pending=pending,
        lock=inspect_lock(resources),
    )


def inspect_lock(resources: Resources) -> LockReport:
    """Whether the lock is held, and by whom as far as the holder has told."""
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


def preview(resources: Resources, policy: Policy, *, sql: bool) -> Preview:
    """What a run would do now. Raises `StateRefused` where it would refuse."""
    scripts = resources.scripts()
    target = resources.settings.target
    observation = View(resources, scripts).look(adopts=policy.unversioned == "adopt")
    plan = decide(observation, policy, Command.RUN)
    upgrades = Task.UPGRADE in plan.tasks
    return Preview(
        state=observation.state,
        tasks=plan.tasks,
        revisions=scripts.pending(target, observation.versions) if upgrades else (),
        sql=_sql(resources, scripts, plan.tasks, observation.versions) if sql else None,
    )


def _sql(
    resources: Resources, scripts: Scripts, tasks: tuple[Task, ...], versions: tuple[str, ...]
) -> str:
    from orchestrator.revisions.context import PassOptions  # imports Alembic
    from orchestrator.revisions.offline import write_sql

    target = resources.settings.target

    def work(environment: Environment) -> Iterator[Step]:
        for task in tasks:
            yield from TASKS[task](
                TaskContext(
                    environment=environment,
                    target=target if task is Task.UPGRADE else "heads",
                    versions=versions,
                )
            )

    options = PassOptions(
        url=resources.url,
        target=target,
        x_arguments=resources.settings.x_args,
        tag=resources.settings.tag,
    )
    return write_sql(scripts, work, options, versions) if tasks else ""


class Watch:
    """Asks again and again whether the target is reached, and loads the scripts only once."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._scripts: Scripts | None = None
        self._view: View | None = None

    def ready(self, interrupted: Callable[[], None]) -> Ended | None:
        """The end of the watch, if the database is at its target; else None."""
        ended = probe_known(self._resources, interrupted)
        if ended is not None or not database.exists(self._resources.url):
            return ended
        if self._scripts is None or self._view is None:
            self._scripts = self._resources.scripts()
            self._view = View(self._resources, self._scripts)
        known = self._view.known
        if known is None:
            observation = self._view.look()
            current = observation.state is DatabaseState.CURRENT
            return Ended(versions=observation.versions) if current else None
        with database.connect(self._resources.url) as connection:
            rows = probe.version_rows(connection, known.version_table, known.version_table_schema)
        target = self._resources.settings.target
        if not rows or self._scripts.unknown(rows):
            return None
        reached = not self._scripts.missing(self._scripts.resolve(target, rows), rows)
        return Ended(versions=rows) if reached else None
