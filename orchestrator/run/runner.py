"""One run, from the first event to the terminal one, and its report."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from orchestrator.databases.quoting import told
from orchestrator.databases.secrets import redacted
from orchestrator.decision.job import Command, Job
from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    OrchestratorError,
    by_setting,
)
from orchestrator.events import DatabaseReady, RunCancelled, RunFailed, RunStarted, Warned
from orchestrator.host.peers import Peers
from orchestrator.journal.writer import Journal
from orchestrator.results import AppliedRevision, Ended, ErrorReport, RunReport
from orchestrator.run.broadcast import Broadcast
from orchestrator.run.contender import Contender
from orchestrator.run.resources import Resources
from orchestrator.run.threads import in_thread
from orchestrator.settings import nearly_settings

if TYPE_CHECKING:
    from orchestrator.journal.late import LateJournal
    from orchestrator.run.follower import Follower
    from orchestrator.run.requirement import Requirement


class Runner:
    """Runs one job, once. `report` is there when it has ended, however it ended."""

    def __init__(self, resources: Resources, job: Job, broadcast: Broadcast) -> None:
        self.report: RunReport | None = None
        self._resources = resources
        self._settings = resources.settings
        self._job = job
        self._broadcast = broadcast
        self._emit = broadcast.emit
        self._began, self._began_at = time.monotonic(), datetime.now(UTC)
        self._warnings: list[str] = []
        self._unready: ConfigurationError | None = None
        self._remarks: list[str] = []
        self._journal: Journal | LateJournal | None = None
        self._way: Contender | Follower | Requirement | None = None
        self._limiter = anyio.CapacityLimiter(1)  # never queues behind the application's threads

    async def run(self, background: TaskGroup) -> None:
        """Run to the terminal event. Raises the `OrchestratorError` of a run that failed.

        Cancellation ends the run between two revisions; what has run until then is kept.
        """
        unknown = await self._get_ready()
        self._emit(
            RunStarted(
                command=self._job.command,
                mode=self._settings.mode,
                target=redacted(self._job.target),  # a URL in the wrong place has its password
                lock_timeout_seconds=self._settings.lock_timeout_seconds,
            ),
            at=self._began_at,  # what was done to get ready is part of the run
        )
        try:
            for remark in (*self._remarks, *nearly_settings()):
                self._warn(remark)
            if unknown is not None:
                raise unknown
            self._way = self._choose_way()
            ended = await self._way.reach_target(background)
        except OrchestratorError as error:
            if isinstance(error, DatabaseUnavailable):
                error.say("Nothing was changed.")  # what came of a pass is said by its proof
            report = self._resources.without_secrets(error).report()
            self._end("failed", self._unfinished(error.applied), report)
            raise
        except Exception as error:
            # A fault of ours; whoever waits for the terminal event must get it all the same.
            message = told(error, self._resources.secrets)
            report = ErrorReport(type=type(error).__name__, message=message, exit_code=1)
            self._end("failed", self._unfinished(), report)
            raise
        except BaseException:
            self._end("cancelled", self._unfinished())
            raise
        else:
            self._end("cancelled" if ended.cancelled else "ready", ended)
        finally:
            if self._journal is not None:
                self._journal.close()

    def abort(self) -> bool:
        """End the statement that a revision is at; whether that was done. In any thread."""
        return isinstance(self._way, Contender) and self._way.abort()

    async def _get_ready(self) -> Exception | None:
        """What is to be done before the first event; returns what was raised, to be told after it.

        Whatever that is: who reads the events waits for the terminal one.
        """
        try:
            await self._locate()
            self._prepare()
        except Exception as error:  # noqa: BLE001 - it is raised when the run has been told to begin
            return error
        return None

    async def _locate(self) -> None:
        """Ask `env.py` for the URL where none is named; in a thread, where it may run a loop."""
        if not self._resources.names_database:
            with anyio.CancelScope(shield=True):
                await in_thread(lambda _: self._resources.database, self._limiter)

    def _prepare(self) -> None:
        """Make the state directory and open the journal, before the first event is emitted.

        A run that finds nothing to do writes nothing else, and can do without both.
        """
        try:
            if not self._only_looks and (made := self._resources.prepare()) is not None:
                self._remarks.append(made)
        except ConfigurationError as error:
            self._unready = error
            if self._settings.journal is None:
                return  # it would be in that directory
        try:
            self._journal = self._resources.journal()
        except ConfigurationError as error:
            self._unready = self._unready or error
            if self._only_looks and self._settings.journal is None:
                from orchestrator.journal.late import LateJournal  # a run that migrates has one

                self._journal = LateJournal(self._resources.journal)
        if self._journal is not None:
            self._broadcast.add(self._journal)
            if self._journal.unrotated is not None:
                self._remarks.append(self._journal.unrotated)

    def _objection(self) -> ConfigurationError | None:
        """Why nothing may be changed: not even the beginning of the run could be written."""
        if self._unready is not None:
            return self._unready
        if self._journal is not None and self._journal.loss is not None:
            return ConfigurationError(
                f"Before anything was changed, {self._journal.loss}. Make room, or name another "
                f'file, or "off" for none: {by_setting("journal")}.',
                setting="journal",
                denied=True,
            )
        return None

    @property
    def _lacks_journal(self) -> bool:
        """Whether the run should have a journal, and has none."""
        # Who only looks does not make the usual one, and takes it where it is.
        journal = self._settings.journal
        wanted = journal is not None if self._only_looks else journal != "off"
        return wanted and self._journal is None and self._unready is not None

    @property
    def _only_looks(self) -> bool:
        """Whether the run changes nothing, whatever it finds."""
        return self._settings.mode != "migrate" and self._job.command is Command.RUN

    def _choose_way(self) -> Contender | Follower | Requirement:
        peers = Peers(self._resources.record(), emit=self._emit, warn=self._warn)
        if self._only_looks:
            # A run that migrates needs neither.
            from orchestrator.run.follower import Follower
            from orchestrator.run.requirement import Requirement

            if self._settings.mode == "follow":
                return Follower(self._resources, self._job.policy, peers, self._limiter)
            return Requirement(self._resources, self._job.policy, self._limiter, emit=self._emit)
        return Contender(
            self._resources,
            self._job,
            self._broadcast,
            peers=peers,
            limiter=self._limiter,
            warn=self._warn,
            objection=self._objection,
        )

    def _warn(self, message: str, revision: str | None = None) -> None:
        """Tell what somebody should know of, at once and in the report."""
        message = redacted(message)
        self._warnings.append(message)
        self._emit(Warned(message=message, revision=revision))

    def _unfinished(self, applied: tuple[AppliedRevision, ...] = ()) -> Ended:
        """What is known of a run that did not reach its target."""
        return self._way.unfinished(applied) if self._way is not None else Ended(versions=())

    def _end(self, outcome: str, ended: Ended, error: ErrorReport | None = None) -> None:
        """Emit the terminal event, and make the report."""
        duration = time.monotonic() - self._began
        waited = self._way.waited_seconds if self._way is not None else 0.0
        if self._lacks_journal and error is None:
            self._warn(f"this run is not in the journal: {self._unready}")
        if error is not None:
            self._emit(
                RunFailed(
                    error=error.type,
                    message=error.message,
                    exit_code=error.exit_code,
                    applied=ended.applied,
                    duration_seconds=duration,
                    waited_seconds=waited,
                )
            )
        elif outcome == "cancelled":
            self._emit(
                RunCancelled(
                    applied=ended.applied, duration_seconds=duration, waited_seconds=waited
                )
            )
        else:
            self._emit(
                DatabaseReady(
                    versions=ended.versions,
                    applied=ended.applied,
                    led=ended.led,
                    duration_seconds=duration,
                    waited_seconds=waited,
                )
            )
        if self._journal is not None and self._journal.loss is not None:
            self._warnings.append(self._journal.loss)
        self.report = RunReport(
            run_id=self._broadcast.run_id,
            outcome=outcome,
            command=self._job.command,
            led=ended.led,
            state_before=ended.state_before,
            versions=ended.versions,
            applied=ended.applied,
            tasks=ended.tasks,
            waited_seconds=waited,
            duration_seconds=duration,
            error=error,
            warnings=tuple(self._warnings),
        )
