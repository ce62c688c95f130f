"""Whether a run would have anything to do, without a lock and without a change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from orchestrator.databases.patience import AT_ONCE
from orchestrator.decision.job import Policy
from orchestrator.decision.plan import adopts, decide
from orchestrator.decision.refusal import work_to_do
from orchestrator.decision.state import Observation
from orchestrator.errors import StateRefused
from orchestrator.events import Event
from orchestrator.results import Ended
from orchestrator.run.inspection import View, inspect_lock
from orchestrator.run.resources import Resources
from orchestrator.run.threads import Cancellation
from orchestrator.run.warm_start import probe_known
from orchestrator.run.work import observe

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Scripts


class Watch:
    """Whether a run would have nothing to do, however often it is asked.

    Loads the scripts only once. It writes nothing and takes no lock. With `emit`, a database
    that is busy is waited for, which is told there; without, whoever asks asks again.
    """

    def __init__(
        self,
        resources: Resources,
        policy: Policy,
        *,
        emit: Callable[[Event], object] | None = None,
    ) -> None:
        self._resources = resources
        self._policy = policy
        self._emit = emit
        self.refusal: StateRefused | None = None
        """What the last look found to be in the way."""
        self._scripts: Scripts | None = None
        self._view: View | None = None

    def ready(self, cancellation: Cancellation) -> Ended | None:
        """The end of the watch, if the database is at its target; else None."""
        try:
            return self.require(cancellation)
        except StateRefused as refusal:
            self.refusal = refusal
            return None  # whoever migrates may see to it

    def require(self, cancellation: Cancellation) -> Ended:
        """The end of the watch. Raises `StateRefused` where a run would have work to do."""
        if self._emit is None:
            patience = AT_ONCE
        else:
            patience = self._resources.patience(cancellation.interrupt, self._emit)
        ended = probe_known(self._resources, patience)
        if ended is not None:
            return ended
        database = self._resources.database
        if not database.exists():
            raise work_to_do(Observation(exists=False), database.shown_url)
        observation = self._look()
        if observation.mark is not None and inspect_lock(self._resources).held:
            raise work_to_do(replace(observation, at_work=True), database.shown_url)
        if decide(observation, self._policy):
            raise work_to_do(observation, database.shown_url)
        return Ended(versions=observation.versions, state_before=observation.state)

    def _look(self) -> Observation:
        if self._scripts is None or self._view is None:
            self._scripts = self._resources.scripts()
            self._view = View(self._resources, self._scripts)
        known, database = self._view.known, self._resources.database
        if known is None:
            # Who looks once tells what is so; who follows waits for others to compare.
            return self._view.look(
                compared=lambda seen: self._emit is not None and adopts(seen, self._policy)
            )
        table, schema = known.version_table, known.version_table_schema
        with database.connect() as connection:
            database.act_as(connection, known.role)
            found = database.version_rows(connection, table, schema)
            rows = found or ()
            tables = () if rows else database.tables(connection, table, schema)
            marked = found.is_marked if found else database.is_marked(connection, schema)
            mark = database.mark(connection, schema, table) if marked else None
        target = self._resources.settings.target
        return observe(
            self._scripts,
            target,
            exists=True,
            versions=rows,
            tables=tables,
            mark=mark,
            tabled=found is not None,
        )
