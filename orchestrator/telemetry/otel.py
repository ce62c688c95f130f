"""Spans and metrics of runs by OpenTelemetry's API; where they go is the business of its SDK.

Attributes of databases follow the semantic conventions,
https://opentelemetry.io/docs/specs/semconv/database/database-spans/; there are none for migrations,
whose names begin with `migration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, Status, StatusCode, TracerProvider, set_span_in_context
from opentelemetry.util.types import AttributeValue

from orchestrator.databases.url import place_of
from orchestrator.errors import ConfigurationError
from orchestrator.events import (
    TERMINAL,
    DatabaseReady,
    DdlBlocked,
    Event,
    LockAcquired,
    LockWaiting,
    PlanMade,
    RevisionApplied,
    RevisionStarted,
    RunCancelled,
    RunFailed,
    RunStarted,
    TaskFailed,
    TaskStarted,
    TaskSucceeded,
    Warned,
)
from orchestrator.journal.writer import Origin
from orchestrator.telemetry.measuring import SECONDS, Measured, Measuring

Attributes = Mapping[str, AttributeValue]
_NAME: Final = "orchestrator"


class OpenTelemetry:
    """A sink: a span `migration.run` for each run, with its waits, tasks and revisions; metrics.

    By the global providers, unless others are given. `attributes` come to each span of a run, and
    `origin` says what else is known of it. A run is a child of the span that it was begun in.
    """

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        attributes: Attributes | None = None,
        origin: Callable[[], Origin] | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._attributes = dict(attributes or {})
        self._origin = origin
        self._measuring = Measuring()
        self._traces: dict[str, _Trace] = {}
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._runs = meter.create_counter(
            "migration.runs", unit="{run}", description="Runs that have ended."
        )
        self._revisions = meter.create_counter(
            "migration.revisions",
            unit="{revision}",
            description="Revisions that have run and are durable.",
        )
        self._run_seconds = meter.create_histogram(
            "migration.run.duration",
            unit="s",
            description="How long a run took, its waiting included.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._revision_seconds = meter.create_histogram(
            "migration.revision.duration",
            unit="s",
            description="How long a revision took.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._wait_seconds = meter.create_histogram(
            "migration.lock.wait.duration",
            unit="s",
            description="How long a run waited for others.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self._pending = meter.create_gauge(
            "migration.revisions.pending",
            unit="{revision}",
            description="How many revisions the database is behind, as the last run left it.",
        )

    def __call__(self, event: Event) -> None:
        """Go on by one event of a run."""
        if isinstance(event, RunStarted):
            self._traces[event.run_id] = _Trace(self._tracer, event, self._attributes)
        known = self._traces.get(event.run_id)
        if known is not None:
            known.take(event)
        if isinstance(event, TERMINAL) and known is not None:
            del self._traces[event.run_id]
            about = _described(self._origin) if self._origin is not None else {}
            known.end(event, about)
        ended = self._measuring.take(event)
        if ended is not None:
            self._measure(ended)

    def _measure(self, ended: Measured) -> None:
        command: dict[str, AttributeValue] = {"migration.command": ended.command}
        outcome = command | {"migration.outcome": ended.outcome}
        if ended.error is not None:
            outcome["error.type"] = ended.error
        self._runs.add(1, outcome | {"migration.led": ended.led})
        self._run_seconds.record(ended.duration_seconds, outcome)
        self._wait_seconds.record(ended.waited_seconds, command)
        if ended.applied:
            self._revisions.add(len(ended.applied), command)
        for revision in ended.applied:
            self._revision_seconds.record(revision.duration_seconds, command)
        if ended.pending is not None:
            self._pending.set(ended.pending)


class _Trace:
    """The spans of one run that are open."""

    def __init__(self, tracer: trace.Tracer, begun: RunStarted, attributes: Attributes) -> None:
        self._tracer = tracer
        self._attributes = attributes
        self._run = tracer.start_span(
            "migration.run",
            start_time=_ns(begun.at),
            attributes={
                **attributes,
                "migration.run.id": begun.run_id,
                "migration.command": begun.command,
                "migration.mode": begun.mode,
                "migration.target": begun.target,
            },
        )
        self._within: Context = set_span_in_context(self._run)
        self._wait: Span | None = None
        self._task: Span | None = None
        self._revision: Span | None = None

    def take(self, event: Event) -> None:  # noqa: C901 - a table of cases
        """Go on by one event."""
        match event:
            case LockWaiting():
                self._waits(event)
            case LockAcquired():
                self._leave("_wait", event.at)
            case PlanMade():
                self._leave("_wait", event.at)
                self._run.set_attribute("migration.revisions.planned", len(event.revisions))
            case TaskStarted():
                self._leave("_wait", event.at)
                self._task = self._open(
                    "migration.task", event.at, {"migration.task.name": event.task}
                )
            case RevisionStarted():
                self._revision = self._open(
                    "migration.revision",
                    event.at,
                    {
                        "migration.task.name": event.task,
                        "migration.revision.id": event.revision,
                        "migration.revision.description": event.description,
                    },
                    within=self._task,
                )
            case RevisionApplied():
                self._leave("_revision", event.at)
            case DdlBlocked():
                self._run.add_event(
                    "migration.ddl_blocked",
                    {"db.query.text": event.statement, "migration.attempt": event.attempt},
                    timestamp=_ns(event.at),
                )
                self._leave("_revision", event.at, error="DdlBlocked")
                self._leave("_task", event.at, error="DdlBlocked")
            case TaskSucceeded():
                self._leave("_task", event.at)
            case TaskFailed():
                self._leave("_revision", event.at, error=event.error)
                self._leave("_task", event.at, error=event.error)
            case Warned():
                self._run.add_event(
                    "migration.warning", {"message": event.message}, timestamp=_ns(event.at)
                )
            case _:
                pass

    def end(self, event: Event, about: Attributes) -> None:
        """The run has ended, and with it whatever is open."""
        for name in ("_wait", "_revision", "_task"):
            self._leave(name, event.at)
        self._run.set_attributes(dict(about))
        match event:
            case RunFailed():
                self._run.set_attribute("migration.outcome", "failed")
                self._run.set_attribute("error.type", event.error)
                self._run.set_status(Status(StatusCode.ERROR, event.message))
            case DatabaseReady():
                self._run.set_attribute("migration.outcome", "ready")
                self._run.set_attribute("migration.led", event.led)
                self._run.set_attribute("migration.versions", event.versions)
            case RunCancelled():
                self._run.set_attribute("migration.outcome", "cancelled")
            case _:
                pass
        self._run.end(_ns(event.at))

    def _waits(self, event: LockWaiting) -> None:
        if self._wait is None:
            began = event.at - timedelta(seconds=event.waited_seconds)
            self._wait = self._open("migration.wait", began, {"migration.lock.name": event.lock})
        if event.holder is not None:
            self._wait.set_attribute("migration.lock.holder", str(event.holder))

    def _open(
        self, name: str, at: datetime, attributes: Attributes, *, within: Span | None = None
    ) -> Span:
        context = self._within if within is None else set_span_in_context(within)
        return self._tracer.start_span(
            name,
            context=context,
            start_time=_ns(at),
            attributes={**self._attributes, **attributes},
        )

    def _leave(self, name: str, at: datetime, *, error: str | None = None) -> None:
        span: Span | None = getattr(self, name)
        if span is None:
            return
        if error is not None:
            span.set_attribute("error.type", error)
            span.set_status(Status(StatusCode.ERROR))
        span.end(_ns(at))
        setattr(self, name, None)


def _described(origin: Callable[[], Origin]) -> dict[str, AttributeValue]:
    """What is known of the database when a run has ended: no user, no secret."""
    known = origin()
    found: dict[str, AttributeValue] = {}
    if known.release is not None:
        found["migration.release"] = known.release
    try:
        place = place_of(known.database)
    except ConfigurationError:  # none is known
        return found
    told = {
        "db.system.name": place.system,
        "db.namespace": place.database,
        "server.address": place.host,
        "server.port": place.port,
    }
    return found | {name: value for name, value in told.items() if value}


def _ns(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000) * 1_000
