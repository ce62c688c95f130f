"""Traces and metrics of runs, for those who collect them.

Nothing of it is imported unless the setting `telemetry`, or the application, asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Final

from orchestrator.errors import ConfigurationError
from orchestrator.events import Event
from orchestrator.journal.writer import Origin

if TYPE_CHECKING:
    from orchestrator.telemetry.prometheus import Prometheus

_NEEDED: Final = {"otel": "opentelemetry-api", "prometheus": "prometheus-client"}


def telemetry_sink(kind: str, origin: Callable[[], Origin]) -> Callable[[Event], None] | None:
    """What makes telemetry of the events of a run as the setting says; None where it is `off`.

    Raises `ConfigurationError`, with what to install, where the library is missing.
    """
    if kind == "off":
        return None
    try:
        if kind == "prometheus":
            return _of_process()
        from orchestrator.telemetry.otel import OpenTelemetry
    except ImportError as error:
        raise ConfigurationError(
            f'`telemetry` = "{kind}" needs {_NEEDED[kind]}: install it with '
            f"`pip install 'migration-orchestrator[{kind}]'`.",
            setting="telemetry",
        ) from error
    return OpenTelemetry(origin=origin)


@cache
def _of_process() -> Prometheus:
    """The one of the default registry, which takes each metric once."""
    from orchestrator.telemetry.prometheus import Prometheus

    return Prometheus()
