"""Spans and metrics by OpenTelemetry, as the SDK's in-memory exporters get them."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from orchestrator import Orchestrator, OrchestratorError, Settings
from orchestrator.events import RevisionStarted
from orchestrator.telemetry.otel import OpenTelemetry
from tests.projects import Project

ENV_PY = "from orchestrator.environment import run_migrations\n\nrun_migrations()\n"


class Collected:
    """What a sink of an orchestrator has made of its runs."""

    def __init__(self, project: Project) -> None:
        project.write("migrations/env.py", ENV_PY)
        self._project = project
        self._spans = InMemorySpanExporter()
        traces = TracerProvider(shutdown_on_exit=False)
        traces.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = traces.get_tracer("test")
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self._given = {"tracer_provider": traces, "meter_provider": meters}

    def orchestrator(self, **settings: Any) -> Orchestrator:
        given: dict[str, Any] = {
            "database_url": self._project.url,
            "script_location": str(self._project.path / "migrations"),
            "log": "off",
            "release": "7.1",
            **settings,
        }
        sink = OpenTelemetry(
            **self._given,
            attributes={"team": "shop"},
            origin=lambda: made.resources.origin(),  # noqa: PLW0108 - made below
        )
        made = Orchestrator(Settings(**given), sinks=[sink])
        return made

    @property
    def spans(self) -> dict[str, list[ReadableSpan]]:
        found: dict[str, list[ReadableSpan]] = {}
        for span in self._spans.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found

    @property
    def metrics(self) -> dict[str, list[Any]]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return {
            metric.name: list(metric.data.data_points)
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }


@pytest.fixture
def collected(project: Project) -> Collected:
    return Collected(project)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_a_run_that_migrates(project: Project, collected: Collected) -> None:
    """One span, below that of who began it, with its task and revisions below; and its figures."""
    project.chain(2)

    async def run() -> None:
        with collected.tracer.start_as_current_span("deploy"):
            await collected.orchestrator().run()

    anyio.run(run)

    spans = collected.spans
    [deploy], [root], [task] = spans["deploy"], spans["migration.run"], spans["migration.task"]
    assert root.parent is not None
    assert (root.parent.span_id, task.parent.span_id) == (  # type: ignore[union-attr]
        deploy.context.span_id,
        root.context.span_id,
    )
    assert (
        attributes(root).items()
        >= {
            "migration.command": "run",
            "migration.outcome": "ready",
            "migration.led": True,
            "migration.versions": ("r2",),
            "migration.release": "7.1",
            "db.system.name": "sqlite",
            "db.namespace": str(project.database),
            "team": "shop",
        }.items()
    )
    revisions = spans["migration.revision"]
    assert [attributes(one)["migration.revision.id"] for one in revisions] == ["r1", "r2"]
    for one in revisions:
        assert one.parent is not None
        assert one.parent.span_id == task.context.span_id
        assert root.start_time <= one.start_time <= one.end_time <= root.end_time  # type: ignore[operator]
    metrics = collected.metrics
    [runs], [ran] = metrics["migration.runs"], metrics["migration.revisions"]
    assert (runs.value, dict(runs.attributes)["migration.outcome"]) == (1, "ready")
    assert ran.value == 2
    assert metrics["migration.revision.duration"][0].count == 2
    assert metrics["migration.revisions.pending"][0].value == 0


def test_a_run_that_fails(project: Project, collected: Collected) -> None:
    """Its revision, its task and itself are errors, by the kind of it; what is pending is told."""
    project.chain(1)
    project.revision("r2", "r1", "raise ValueError('bad')")
    with pytest.raises(OrchestratorError):
        anyio.run(collected.orchestrator().run)

    spans = collected.spans
    for name in ("migration.run", "migration.task"):
        assert spans[name][0].status.status_code is StatusCode.ERROR
        assert attributes(spans[name][0])["error.type"] == "TaskFailed"
    first, second = spans["migration.revision"]
    assert (first.status.status_code, second.status.status_code) == (
        StatusCode.UNSET,
        StatusCode.ERROR,
    )
    metrics = collected.metrics
    [runs] = metrics["migration.runs"]
    assert dict(runs.attributes)["error.type"] == "TaskFailed"
    assert metrics["migration.revisions.pending"][0].value == 2


def test_a_run_that_waits(project: Project, collected: Collected) -> None:
    """It has a span for that, which names whom it waited for, and the seconds of it."""
    project.chain(1)
    project.revision("r2", "r1", "time.sleep(0.5)")
    leading = collected.orchestrator()

    async def both() -> None:
        async with leading.start() as leader:
            async for event in leader.events():
                if isinstance(event, RevisionStarted) and event.revision == "r2":
                    break
            await collected.orchestrator().run()

    anyio.run(both)

    [wait] = collected.spans["migration.wait"]
    assert "pid" in str(attributes(wait)["migration.lock.holder"])
    assert wait.end_time - wait.start_time > 0  # type: ignore[operator]
    follower = next(
        span for span in collected.spans["migration.run"] if not attributes(span)["migration.led"]
    )
    assert wait.parent is not None
    assert wait.parent.span_id == follower.context.span_id
    [waits] = collected.metrics["migration.lock.wait.duration"]
    assert waits.count == 2
    assert waits.max > 0


def test_no_password_is_told(project: Project, collected: Collected) -> None:
    """Of a URL that has one, only where and which database."""
    project.chain(1)
    url = "postgresql+psycopg://me:s3cret-enough@127.0.0.1:9/shop"
    orchestrator = collected.orchestrator(database_url=url, connect_timeout_seconds=0)
    with pytest.raises(OrchestratorError):
        anyio.run(orchestrator.run)
    [root] = collected.spans["migration.run"]
    assert "s3cret" not in str(attributes(root)) + str(root.status.description)
    assert attributes(root)["server.port"] == 9
    assert attributes(root)["db.namespace"] == "shop"


@pytest.mark.parametrize("kind", ["otel", "prometheus"])
def test_what_is_missing_is_said(
    project: Project, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which line to type, before anything is done."""
    project.chain(1)
    for name in ("opentelemetry", "prometheus_client"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    for name in ("orchestrator.telemetry.otel", "orchestrator.telemetry.prometheus"):
        monkeypatch.delitem(__import__("sys").modules, name, raising=False)
    settings = Settings(
        database_url=project.url, script_location="migrations", log="off", telemetry=kind
    )
    with pytest.raises(OrchestratorError, match=rf"migration-orchestrator\[{kind}\]"):
        anyio.run(Orchestrator(settings).run)
    assert not project.database.exists()
