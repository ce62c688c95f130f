"""What the one process that holds the lock does, in a worker thread: the pass and its proof."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy.exc import SQLAlchemyError

from orchestrator.databases import marks
from orchestrator.databases.patience import patiently
from orchestrator.databases.quoting import told as quoted
from orchestrator.decision.job import Command, Job
from orchestrator.decision.state import Observation
from orchestrator.errors import (
    DatabaseUnavailable,
    Interrupted,
    OrchestratorError,
    by_setting,
)
from orchestrator.events import DdlBlocked, Event, TaskFailed
from orchestrator.results import Ended, Mark
from orchestrator.run.heartbeat import Heartbeat
from orchestrator.run.proof import Found, Proof
from orchestrator.run.resources import Resources
from orchestrator.run.threads import Cancellation
from orchestrator.run.work import Outcome, Work

if TYPE_CHECKING:
    from orchestrator.host.heads import HeadsFile
    from orchestrator.revisions.scripts import Scripts
    from orchestrator.revisions.transactions.base import Blocked, Transaction


class Leader:
    """One job under the lock. `scripts_found` is told the fingerprint of the scripts.

    `lock_seconds` is how long is waited for somebody who works without the lock, `process` says
    who this is.
    """

    def __init__(
        self,
        resources: Resources,
        job: Job,
        *,
        emit: Callable[[Event], object],
        warn: Callable[[str, str | None], None],
        scripts_found: Callable[[str], None],
        lock_seconds: float,
        process: str = "",
    ) -> None:
        self._process = process
        self._resources = resources
        self._database = resources.database
        self._job = job
        self._emit = emit
        self._warn = warn
        self._scripts_found = scripts_found
        self._lock_seconds = lock_seconds
        self.outcome = Outcome()
        self.found: tuple[str, ...] = ()
        self._tabled = False
        self._transaction: Transaction | None = None
        self._ran: Transaction | None = None
        self._session: int | None = None
        self._lost_session: int | None = None
        self._aborted = False

    def abort(self) -> bool:
        """End the statement that a revision is at; False where there is none, or it cannot be.

        To be called from another thread. The run then ends as one that was cancelled; as one that
        failed where the revision had committed a part of its work.
        """
        transaction = self._transaction
        if transaction is None:
            return False
        # Before it is: a revision that keeps that to itself must not end well.
        self._aborted = transaction.aborted = True
        cancelled = transaction.cancel()
        if not cancelled:
            self._aborted = transaction.aborted = False
        return cancelled

    def lead(self, cancellation: Cancellation) -> Ended:
        """Do the job, and prove it on a fresh connection.

        The cancellation is asked between revisions, and while the database is busy.

        Raises an `OrchestratorError` whose `applied` says what is durable all the same.
        """
        for danger in self._database.dangers():
            self._warn(danger, None)
        heads = self._resources.heads()
        scripts = self._resources.scripts(heads, self._scripts_found)
        self._warn_of_heads(scripts)
        error = self._run(scripts, cancellation)
        outcome = self.outcome
        try:
            found = self._ask()
        except OrchestratorError as unavailable:
            proof = self._proof(scripts, None)
            if error is None:
                raise proof.unseen(unavailable) from unavailable
            failure = self._told(proof, error)
            raise failure from failure.__cause__
        self.found, self._tabled = found.versions, found.tabled
        for defect in found.defects:
            if defect not in outcome.defects:
                self._warn(defect, None)
        proof = self._proof(scripts, found)
        if error is None:
            error = proof.disproof()
        if error is not None:
            self._clear_mark(scripts)
            raise self._told(proof, error)
        if self._job.command is Command.STAMP and not self.found and outcome.before is not None:
            self._warn_of_base(outcome.before)
        ended = Ended(
            versions=self.found,
            state_before=outcome.before.state if outcome.before else None,
            applied=proof.durable(),
            tasks=tuple(outcome.tasks),
            led=bool(outcome.plan),
            cancelled=outcome.cancelled,
        )
        self._clear_mark(scripts, ended)
        self._remember(heads, scripts, ended)
        return ended

    def _warn_of_heads(self, scripts: Scripts) -> None:
        for location in scripts.absent_locations:
            self._warn(
                f"There is no directory {os.path.abspath(location)}, in which revisions are looked "
                "for.",
                None,
            )
        if not scripts.heads:
            self._warn(
                f"The scripts in {scripts.directory.dir} have no revision, so there is nothing "
                "to migrate.",
                None,
            )
        if self._job.target == "heads" and len(scripts.heads) > 1:
            self._warn(
                f"The scripts have {len(scripts.heads)} heads: {', '.join(scripts.heads)}. `heads` "
                "stands for all of them. If two branches have met by accident, join them with "
                "`orchestrator merge heads`.",
                None,
            )

    def _warn_of_base(self, before: Observation) -> None:
        if before.tables:
            self._warn(
                "`base` leaves no version row, so the next run finds tables without one. Only with "
                f"{by_setting('unversioned', 'upgrade')} does it run all revisions on them.",
                None,
            )

    def _proof(self, scripts: Scripts, found: Found | None) -> Proof:
        return Proof(self.outcome, self._job, scripts, self._database, found=found)

    def _run(self, scripts: Scripts, cancellation: Cancellation) -> Any:
        """Run the pass; returns what was raised instead of raising it."""
        from orchestrator.revisions.connections import find_scripts  # imports Alembic
        from orchestrator.revisions.env_py import run_env_py

        existed = self._database.exists()
        work = Work(
            self._job,
            database=self._database,
            existed=existed,
            emit=self._emit,
            warn=self._warn,
            cancelled=cancellation.is_requested,
        )
        self.outcome = outcome = work.outcome
        heartbeat = Heartbeat(self._database, emit=self._emit, at=lambda: outcome.at)
        options = self._resources.pass_options(
            self._job.target,
            transaction=self._resources.settings.transaction,
            process=self._process,
            patience=self._resources.patience(cancellation.interrupt, self._emit),
            lock_seconds=self._lock_seconds,
            ddl_lock_seconds=self._resources.settings.ddl_lock_timeout_seconds,
            ddl_retry_seconds=self._resources.settings.ddl_retry_seconds,
            attend=partial(self._attend, heartbeat),
            blocked=self._tell_blocked,
            warn=self._warn,
        )
        try:
            if not existed:
                work.refuse_absent(scripts, partial(find_scripts, scripts, options))
            run_env_py(scripts, work, options)
            return None
        except Interrupted:
            self.outcome.cancelled = True
            failure = None
        except Exception as error:  # noqa: BLE001 - whatever it is, the proof comes first
            failure = error
            if self._is_lost(error):
                self._lost_session = self._session
            if self._aborted and not _has_divided(error):
                self.outcome.cancelled, failure = True, None
        if self._ran is not None:
            outcome.committed = self._ran.committed
        if not existed:
            self._database.discard_empty()
        return failure

    @contextmanager
    def _attend(self, heartbeat: Heartbeat, transaction: Transaction) -> Iterator[None]:
        self._transaction = self._ran = transaction
        self._session = transaction.session
        try:
            with heartbeat.attending(transaction):
                yield
        finally:
            self._transaction = None

    def _tell_blocked(
        self, blocked: Blocked, attempt: int, waited_seconds: float, pause_seconds: float
    ) -> None:
        at = self.outcome.at
        self._emit(
            DdlBlocked(
                task=at.task if at is not None else None,
                revision=at.revision if at is not None else None,
                statement=blocked.statement,
                attempt=attempt,
                waited_seconds=waited_seconds,
                retry_in_seconds=pause_seconds,
                blockers=blocked.blockers,
            )
        )

    def _ask(self) -> Found:
        """What the database has, asked on a connection of our own."""
        known, created, database = self.outcome.known, self.outcome.created, self._database
        if known is None or not database.exists():
            return Found()

        def ask() -> Found:
            with database.connect() as connection:
                if self._lost_session and database.is_at_work(connection, self._lost_session):
                    # It may be at the very commit.
                    raise DatabaseUnavailable(
                        f"The server goes on with what was begun in {database.shown_url}.",
                        url=database.shown_url,
                        busy=True,
                        reason="the server has not ended the work whose connection was lost",
                    )
                database.act_as(connection, known.role)
                table, schema = known.version_table, known.version_table_schema
                versions = database.version_rows(connection, table, schema)
                return Found(
                    versions=versions or (),
                    tabled=versions is not None,
                    lacking=database.lacking(connection, created),
                    defects=database.defects(connection) if self.outcome.plan else (),
                )

        patience = self._resources.patience(emit=self._emit)
        if self._lost_session is not None:
            tell = patience.tell
            patience = replace(
                patience,
                tell=lambda waited, reason: tell(
                    waited, f"the work was lost, and what is kept cannot be seen yet: {reason}"
                ),
            )
        return patiently(ask, patience)

    def _clear_mark(self, scripts: Scripts, ended: Ended | None = None) -> None:
        """Take away what tells of revisions that have ended, by now as the version rows tell."""
        known, before = self.outcome.known, self.outcome.before
        if known is None or not (self.outcome.marked or (self._ran and self._ran.division.marked)):
            return
        resolved = before.mark if before is not None and ended and ended.tasks else None
        table, schema = known.version_table, known.version_table_schema

        def is_over(mark: Mark) -> bool:
            rows = self.found if self._tabled else None
            return mark == resolved or scripts.is_done(mark, rows)

        try:
            with self._database.connect() as connection:
                self._database.act_as(connection, known.role)
                self._database.clear_mark(connection, schema, table, is_over=is_over)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            reason = quoted(error.__cause__ or error, self._database.secrets)
            self._warn(
                f"The table {marks.TABLE} could not be taken away ({reason}). It says of nothing "
                "that it is interrupted, and the next start that can do so takes it away.",
                None,
            )

    def _is_lost(self, error: Exception) -> bool:
        cause = getattr(error, "error", error)
        if isinstance(cause, DatabaseUnavailable):
            return cause.unreachable
        told = self._database.explain(cause)
        return told is not None and told.unreachable

    def _told(self, proof: Proof, error: Exception) -> OrchestratorError:
        """The error as the caller gets it; the failed task is told as an event, too."""
        raised = proof.explained(error)
        if self._aborted:
            raised.scripts_failed = False  # it is nobody else's failure
        task = self.outcome.task
        if task is not None:
            report = raised.report()
            self._emit(
                TaskFailed(
                    task=task,
                    revision=getattr(raised, "revision", None),
                    error=report.type,
                    message=report.message,
                    rolled_back=proof.rolled_back(error),
                    file=getattr(raised, "file", None),
                    line=getattr(raised, "line", None),
                )
            )
        return raised

    def _remember(self, heads: HeadsFile, scripts: Scripts, ended: Ended) -> None:
        """Write down the target for warm starts, if that is where the database is."""
        outcome = self.outcome
        before, known = outcome.before, outcome.known
        if self._job.command is not Command.RUN or ended.cancelled or not (before and known):
            return
        if before.unknown or not ended.versions or scripts.missing(before.target, ended.versions):
            return
        if scripts.moved:
            return  # env.py may have looked for directories, and find another next time
        heads.store(
            replace(known, versions=ended.versions), scripts.locations(), scripts.fingerprint
        )


def _has_divided(error: Exception) -> bool:
    """Whether what failed has committed a part of itself, as far as that is known."""
    return bool(getattr(error, "divided", getattr(error, "committed", False)))
