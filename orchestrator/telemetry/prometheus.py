"""Metrics of runs for Prometheus, by its client library, in its multi-process mode, too."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from orchestrator.events import Event
from orchestrator.telemetry.measuring import SECONDS, Measuring


class Prometheus:
    """A sink: what is measured of each run that ends.

    `registry` takes the metrics, each once: one of these is enough for a process, and for all of
    its orchestrators. Where `PROMETHEUS_MULTIPROC_DIR` is set, they are those of all workers.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._measuring = Measuring()
        self._runs = Counter(
            "migration_runs",
            "Runs that have ended.",
            ("command", "outcome", "led"),
            registry=registry,
        )
        # From nought on: an increase is seen only of what was there before.
        for outcome in ("ready", "failed", "cancelled"):
            for led in ("true", "false"):
                self._runs.labels("run", outcome, led)
        self._revisions = Counter(
            "migration_revisions_applied",
            "Revisions that have run and are durable.",
            ("command",),
            registry=registry,
        )
        self._run_seconds = Histogram(
            "migration_run_duration_seconds",
            "How long a run took, its waiting included.",
            ("command", "outcome"),
            buckets=SECONDS,
            registry=registry,
        )
        self._revision_seconds = Histogram(
            "migration_revision_duration_seconds",
            "How long a revision took.",
            ("command",),
            buckets=SECONDS,
            registry=registry,
        )
        self._wait_seconds = Histogram(
            "migration_lock_wait_duration_seconds",
            "How long a run waited for others.",
            ("command",),
            buckets=SECONDS,
            registry=registry,
        )
        self._pending = Gauge(
            "migration_revisions_pending",
            "How many revisions the database is behind, as the last run left it.",
            registry=registry,
            multiprocess_mode="mostrecent",
        )

    def __call__(self, event: Event) -> None:
        """Count a run that has ended."""
        ended = self._measuring.take(event)
        if ended is None:
            return
        led = "true" if ended.led else "false"
        self._runs.labels(ended.command, ended.outcome, led).inc()
        self._run_seconds.labels(ended.command, ended.outcome).observe(ended.duration_seconds)
        self._wait_seconds.labels(ended.command).observe(ended.waited_seconds)
        self._revisions.labels(ended.command).inc(len(ended.applied))
        for revision in ended.applied:
            self._revision_seconds.labels(ended.command).observe(revision.duration_seconds)
        if ended.pending is not None:
            self._pending.set(ended.pending)
