"""What a command measures, sent to a collector: a deploy job has no application that would do it.

Where it goes is said by the variables of OpenTelemetry's SDK (`OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_SERVICE_NAME`, …): https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Final

from orchestrator.cli.output import stderr
from orchestrator.errors import ConfigurationError
from orchestrator.settings import Settings

_FLUSH_SECONDS: Final = 3.0
"""How long a collector may take at the end of a command, which has done its work by then."""
_INTERVAL_MILLISECONDS: Final = 60_000
_NAME: Final = "orchestrator"


def telemetry_of(settings: Settings) -> Callable[[], None]:
    """What sends, at the end of a command, what has been measured, if the settings say so.

    Nothing is waited for meanwhile; at the end a collector that does not answer is waited for 3 s
    at most, and told of in a line. Where the application has set up an SDK, that one counts.
    Raises `ConfigurationError`, with what to install, where that is missing.
    """
    if settings.telemetry != "otel":
        return lambda: None
    try:
        if _is_set_up():
            return lambda: None
        return partial(_flush, _set_up())
    except ImportError as error:
        raise ConfigurationError(
            '`telemetry` = "otel" needs OpenTelemetry\'s SDK and its OTLP exporter on the command '
            "line: install them with `pip install 'migration-orchestrator[otel]'`.",
            setting="telemetry",
        ) from error


def _is_set_up() -> bool:
    from opentelemetry import trace  # only where it is asked for

    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def _set_up() -> Callable[[], bool]:
    """Make the SDK's providers the global ones; what sends all that they have, and says whether."""
    from opentelemetry import metrics, trace
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # One line is told in their place; each tells of every try.
    logging.getLogger("opentelemetry").addHandler(logging.NullHandler())
    logging.getLogger("opentelemetry").propagate = False
    found = Resource.create()
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        found = found.merge(Resource({"service.name": _NAME}))
    seconds = _FLUSH_SECONDS
    traces = TracerProvider(resource=found, shutdown_on_exit=False)
    traces.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(timeout=seconds)))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(timeout=seconds), export_interval_millis=_INTERVAL_MILLISECONDS
    )
    measures = MeterProvider([reader], resource=found, shutdown_on_exit=False)
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(measures)
    milliseconds = int(seconds * 1000)
    return lambda: traces.force_flush(milliseconds) and measures.force_flush(milliseconds)


def _flush(flush: Callable[[], bool]) -> None:
    sent: list[bool] = []

    def work() -> None:
        try:
            sent.append(flush())
        except Exception:  # noqa: BLE001 - a collector's, or the SDK's own
            sent.append(False)

    thread = threading.Thread(target=work, name="orchestrator-telemetry", daemon=True)
    thread.start()
    thread.join(_FLUSH_SECONDS)
    if not (sent and sent[0]):
        stderr().print("Telemetry was not sent: the collector did not take it in time.")
