"""`telemetry = "otel"` on the command line: what a deploy job sends, to whom, and what it costs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.projects import Project, finish


class Collector:
    """A receiver of OTLP over HTTP."""

    def __init__(self) -> None:
        self.traces: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    collector.traces.append(ExportTraceServiceRequest.FromString(body))
                else:
                    collector.metrics.append(ExportMetricsServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


OTEL = {"ORCHESTRATOR_TELEMETRY": "otel", "OTEL_EXPORTER_OTLP_COMPRESSION": "none"}


def test_a_deploy_job_sends_what_it_measured(project: Project, collector: Collector) -> None:
    """A trace and metrics, under a service's name, before the command ends."""
    project.chain(2)
    variables = OTEL | {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint}
    ended = finish(project.start("run", "--json", **variables))
    assert ended.code == 0, ended.stderr
    assert "Telemetry" not in ended.stderr
    [resource] = [one for sent in collector.traces for one in sent.resource_spans]
    names = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert names["service.name"] == "orchestrator"
    spans = [span.name for scope in resource.scope_spans for span in scope.spans]
    assert sorted(spans) == [
        "migration.revision",
        "migration.revision",
        "migration.run",
        "migration.task",
    ]
    metrics = {
        metric.name
        for sent in collector.metrics
        for one in sent.resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
    }
    assert {"migration.runs", "migration.run.duration", "migration.revisions"} <= metrics


def test_a_collector_that_is_down_changes_nothing(project: Project) -> None:
    """Neither what is done nor the exit code; a line says that nothing was sent."""
    project.chain(2)
    with socket.socket() as silent:  # takes connections, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        variables = OTEL | {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}
        ended = finish(project.start("run", "--json", **variables))
    assert ended.code == 0
    assert ended.json["versions"] == ["r2"]
    assert ended.stderr.strip().splitlines()[-1].startswith("Telemetry was not sent")
    assert "Traceback" not in ended.stderr


def test_an_unknown_kind(project: Project) -> None:
    """An error that names those that there are."""
    ended = project.run("run", ORCHESTRATOR_TELEMETRY="statsd")
    assert ended.code == 2
    assert "otel" in ended.stderr
