"""The library's face: an `Orchestrator` for one database, and the `Run` that it starts."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, Self, TypeVar, Unpack

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from orchestrator.decision.job import Command, Job, Policy
from orchestrator.errors import OrchestratorError
from orchestrator.events import Event, RevisionApplied, RevisionStarted, TaskFailed
from orchestrator.results import Check, Inspection, Preview, RunReport
from orchestrator.run.broadcast import Broadcast, Sink
from orchestrator.run.listening import Listener, tell
from orchestrator.run.log import log_sink
from orchestrator.run.resources import Resources
from orchestrator.run.runner import Runner
from orchestrator.settings import Settings, SettingsArguments, load

_OF_WORK: Final = (RevisionStarted, RevisionApplied, TaskFailed)

E = TypeVar("E", bound=Event)
T = TypeVar("T")


class Run:
    """A run in progress, or one that has ended; made by `Orchestrator.start`."""

    def __init__(self, runner: Runner, broadcast: Broadcast) -> None:
        self._runner = runner
        self._broadcast = broadcast
        self._scope = anyio.CancelScope()
        self._ended = anyio.Event()
        self._error: Exception | None = None

    @property
    def run_id(self) -> str:
        """The id that events, journal and record know this run by."""
        return self._broadcast.run_id

    @property
    def report(self) -> RunReport | None:
        """How the run ended, a failed one too; None while it lasts."""
        return self._runner.report

    @property
    def at_work(self) -> bool:
        """Whether a revision is run at this moment, as far as the events have told."""
        told = (event for event in reversed(self._broadcast.history) if isinstance(event, _OF_WORK))
        return isinstance(next(told, None), RevisionStarted)

    def events(self) -> AsyncIterator[Event]:
        """Every event from the first to the terminal one, whenever this is called."""
        return self._broadcast.events()

    async def wait_for(self, event: type[E]) -> E:
        """The first event of a kind, waited for if need be.

        Raises the run's error if it ends without one, or `LookupError` if it ends well or
        is cancelled.
        """
        async for emitted in self.events():
            if isinstance(emitted, event):
                return emitted
        await self.result()
        raise LookupError(f"the run ended without {event.__name__}")

    async def result(self) -> RunReport:
        """The report, when the run has ended; of a cancelled one, too.

        Raises the `OrchestratorError` of a run that failed.
        """
        await self._ended.wait()
        return self._result()

    def cancel(self) -> None:
        """End the run: at once while it waits, after the current revision while it works."""
        self._scope.cancel()

    async def abort(self) -> bool:
        """Cancel the run, and the statement that its revision is at, where the database can.

        False where it cannot, or nothing is executed: then the revision is waited for. What was
        not committed is not kept.
        """
        self.cancel()
        return await to_thread.run_sync(self._runner.abort)

    def _result(self) -> RunReport:
        if self._error is not None:
            raise self._error
        if self._runner.report is None:
            raise RuntimeError("the run has not ended")
        return self._runner.report

    async def _main(self, background: TaskGroup) -> None:
        try:
            with self._scope:
                await self._runner.run(background)
        except Exception as error:  # noqa: BLE001 - `result` raises it
            self._error = error
        finally:
            self._broadcast.close()
            self._ended.set()


class Orchestrator:
    """Brings one database to its target, together with all other processes that try.

    Settings are read when this is made; files and the database are first touched by a run.
    `sinks` are called with every event, in order, in a thread that emits. `attributes` are
    objects for an `env.py` that asks for them, as its `context.config.attributes`.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        sinks: Sequence[Sink] = (),
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        self.settings = settings or Settings()
        self._resources = Resources(self.settings, MappingProxyType(dict(attributes or {})))
        self._sinks = tuple(sinks)

    @classmethod
    def from_config(
        cls,
        file: str | Path | None = None,
        *,
        sinks: Sequence[Sink] = (),
        attributes: Mapping[str, Any] | None = None,
        **settings: Unpack[SettingsArguments],
    ) -> Self:
        """An orchestrator whose settings also come from a file (see `settings.load`).

        Raises `ConfigurationError`.
        """
        return cls(load(file, **settings), sinks=sinks, attributes=attributes)

    def with_settings(self, **settings: Unpack[SettingsArguments]) -> Self:
        """The same with other values for some settings. Raises `ConfigurationError`."""
        return type(self)(
            self.settings.replaced(settings),
            sinks=self._sinks,
            attributes=self._resources.attributes,
        )

    @property
    def resources(self) -> Resources:
        """The files and the database that runs of this orchestrator touch."""
        return self._resources

    async def run(self) -> RunReport:
        """Bring the database to its target, or wait until another process has.

        Raises an `OrchestratorError`. Cancellation lets the current revision finish.
        """
        return await self._complete(Command.RUN)

    async def create(self, *, stamp: bool = True) -> RunReport:
        """Make the tables of the metadata in an empty database, and stamp it as newest."""
        return await self._complete(Command.CREATE, stamp_created=stamp)

    async def stamp(
        self, revision: str = "heads", *, force: bool = False, purge: bool = False
    ) -> RunReport:
        """Set the version rows without running a revision.

        `force` stamps an empty database, too; `purge` replaces rows that no script knows.
        """
        return await self._complete(Command.STAMP, revision, force=force, purge=purge)

    async def upgrade(self, revision: str = "heads") -> RunReport:
        """Run the revisions up to one; `+1` is relative to the database."""
        return await self._complete(Command.UPGRADE, revision)

    async def downgrade(self, revision: str) -> RunReport:
        """Take back the revisions beyond one; `-1` is relative to the database, `base` is all."""
        return await self._complete(Command.DOWNGRADE, revision)

    async def resolve(self, revision: str, *, applied: bool) -> RunReport:
        """End the state `interrupted`, once somebody has seen to the revision by hand.

        With `applied` it is taken for done, and the version rows say so; else for undone.
        """
        return await self._complete(Command.RESOLVE, revision, applied=applied)

    async def inspect(self) -> Inspection:
        """Look at the database, its pending revisions and its lock; touches nothing."""
        from orchestrator.run.inspection import inspect  # no run needs it

        look = partial(inspect, self._resources, self._policy())
        return await to_thread.run_sync(self._look, look)

    async def plan(self, *, sql: bool = False, downgrade: str | None = None) -> Preview:
        """What `run` would do now, and its SQL if asked for; touches nothing.

        With `downgrade`, what `downgrade` to that revision would do.
        """
        from orchestrator.run.inspection import preview  # no run needs it

        look = partial(preview, self._resources, self._policy(), sql=sql, downgrade=downgrade)
        return await to_thread.run_sync(self._look, look)

    async def check(
        self,
        *,
        against: Literal["database", "migrations"] = "database",
        scratch_url: str | None = None,
        accept: bool = False,
    ) -> Check:
        """How the models differ from the database; touches nothing.

        With `against="migrations"`, from what the revisions make of an empty database. That is
        `scratch_url`, made and dropped here, or a temporary file; the database itself is not
        looked at. `accept` writes the differences to the file `accepted_differences`.

        Raises `StateRefused` for a database that is not at its target.
        """
        from orchestrator.run.check import check, require_known  # no run needs it

        require_known(against)
        accepted = self.settings.accepted_differences
        if against == "database":
            look = partial(check, self._resources, against, accepted, accept=accept)
            return await to_thread.run_sync(self._look, look)
        from orchestrator.run.scratch import of_scratch, refuse_own_database, scratch

        if scratch_url is None:
            await to_thread.run_sync(self._look, lambda: self._resources.database)
        with scratch(self._resources, scratch_url) as settings:
            scratched = Orchestrator(settings, attributes=self._resources.attributes)
            refuse = partial(refuse_own_database, scratched._resources)
            await to_thread.run_sync(scratched._look, refuse)
            try:
                await scratched.run()
            except OrchestratorError as error:
                raise of_scratch(error) from error.__cause__
            look = partial(check, scratched._resources, against, accepted, accept=accept)
            return await to_thread.run_sync(scratched._look, look)

    def _look(self, look: Callable[[], T]) -> T:
        try:
            return look()
        except OrchestratorError as error:
            self._resources.without_secrets(error)
            raise

    @asynccontextmanager
    async def start(
        self,
        command: Command = Command.RUN,
        revision: str | None = None,
        *,
        on_event: Listener | None = None,
        **options: bool,
    ) -> AsyncIterator[Run]:
        """Start a run, to watch it; the block is left when the run has ended.

        An error of the run is raised at the end of the block, if the block itself raised
        none; if the block raises, the run is cancelled. `options` are those of the command.

        `on_event` is called with each event, one after the other, in the event loop, and awaited
        if it is asynchronous. What it raises is logged; after that, or after 10 s, it is called
        no more. It stops no migration.
        """
        if revision is None:
            revision = "heads" if command is Command.CREATE else self.settings.target
        job = Job(
            command=command,
            target=revision,
            policy=self._policy(**options),
        )
        log = log_sink(self.settings.log, self._resources.origin)
        measuring = None
        if self.settings.telemetry != "off":
            from orchestrator.telemetry import telemetry_sink  # nobody else pays for it

            measuring = telemetry_sink(self.settings.telemetry, self._resources.origin)
        sinks = (*filter(None, (log, measuring)), *self._sinks)
        broadcast = Broadcast(secrets.token_hex(6), sinks)
        run = Run(Runner(self._resources, job, broadcast), broadcast)
        raised: BaseException | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run._main, tasks)
            if on_event is not None:
                tasks.start_soon(tell, run.events(), on_event)
            try:
                yield run
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below
                # Raised again below: a task group would wrap it in an exception group.
                raised = error
                run.cancel()
        if raised is not None:
            raise raised
        run._result()

    async def _complete(
        self, command: Command, revision: str | None = None, **options: bool
    ) -> RunReport:
        async with self.start(command, revision, on_event=None, **options) as run:
            return await run.result()
        raise AssertionError("a block that returns is not left otherwise")

    def _policy(self, **options: bool) -> Policy:
        return Policy(
            bootstrap=self.settings.bootstrap,
            unversioned=self.settings.unversioned,
            unrecognised=self.settings.unrecognised,
            interrupted=self.settings.interrupted,
            **options,
        )


__all__ = ["Orchestrator", "OrchestratorError", "Run"]
