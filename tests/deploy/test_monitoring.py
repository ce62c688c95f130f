"""The examples of alerts and of a dashboard: their queries are read, and ask for what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry

from orchestrator.events import RunFailed, RunStarted
from orchestrator.telemetry.prometheus import Prometheus
from tests.deploy.cluster import DEPLOY

MONITORING = DEPLOY / "monitoring"


def rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def panels() -> list[dict[str, Any]]:
    return list(json.loads((MONITORING / "dashboard.json").read_text())["panels"])


def queries() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"].replace("$__rate_interval", "5m")


def names() -> set[str]:
    """Of the samples that the sink makes."""
    registry = CollectorRegistry()
    sink = Prometheus(registry)
    sink(
        RunStarted(
            run_id="a", command="run", mode="migrate", target="heads", lock_timeout_seconds=1
        )
    )
    sink(RunFailed(run_id="a", error="TaskFailed", message="", exit_code=1, applied=()))
    return {sample.name for metric in registry.collect() for sample in metric.samples}


@pytest.mark.parametrize("query", list(queries()))
def test_a_query_is_one(query: str) -> None:
    """By a parser of the language; each metric in it is one of ours."""
    promql_parser.parse(query)
    asked = set(re.findall(r"migration_\w+", query))
    assert asked
    assert asked <= names()


def test_alerts_say_what_to_do() -> None:
    """Each has a severity, a summary and a description."""
    assert len(rules()) == 3
    for rule in rules():
        assert set(rule) >= {"alert", "expr", "labels", "annotations"}
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_panels_lie_beside_each_other() -> None:
    """None covers another one, and each has a number of its own."""
    taken = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
