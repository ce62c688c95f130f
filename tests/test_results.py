"""What is reported, as values and as JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, fields
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    LockTimeout,
    OrchestratorError,
    PeerFailed,
    StateRefused,
    TaskFailed,
    VerificationFailed,
)
from orchestrator.results import (
    AppliedRevision,
    ErrorReport,
    Holder,
    Inspection,
    LockReport,
    Preview,
    RunReport,
    TaskResult,
    to_jsonable,
)

HOLDER = Holder(
    run_id="abc",
    host="box",
    pid=42,
    command="run",
    since=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
    release="1.2",
    task="upgrade",
    revision="r7",
)
REPORT = RunReport(
    run_id="abc",
    outcome="failed",
    command="run",
    led=True,
    state_before="behind",
    versions=("r1",),
    applied=(AppliedRevision(revision="r1", description="first", duration_seconds=0.5),),
    tasks=(TaskResult(task="upgrade", duration_seconds=1.5),),
    waited_seconds=0.25,
    duration_seconds=2.0,
    error=ErrorReport(type="TaskFailed", message="boom", exit_code=1),
)


def test_a_run_report_has_the_fields_of_the_design() -> None:
    """What `--json` prints of a run: these fields, in this order."""
    assert to_jsonable(REPORT) == {
        "run_id": "abc",
        "outcome": "failed",
        "command": "run",
        "led": True,
        "state_before": "behind",
        "versions": ["r1"],
        "applied": [{"revision": "r1", "description": "first", "duration_seconds": 0.5}],
        "tasks": [{"task": "upgrade", "duration_seconds": 1.5}],
        "waited_seconds": 0.25,
        "duration_seconds": 2.0,
        "error": {"type": "TaskFailed", "message": "boom", "exit_code": 1},
        "warnings": [],
    }
    assert list(to_jsonable(REPORT))[:4] == ["run_id", "outcome", "command", "led"]


def test_an_inspection_and_a_preview_have_the_fields_of_the_design() -> None:
    """What `status --json` and `plan --json` print."""
    inspection = Inspection(
        database="sqlite:///a.db",
        state="current",
        versions=("r1",),
        heads=("r1",),
        pending=(),
        at_target=True,
        lock=LockReport(held=True, holder=HOLDER),
    )

    assert [field.name for field in fields(Inspection)] == [
        "database",
        "state",
        "versions",
        "unknown",
        "heads",
        "pending",
        "at_target",
        "refused",
        "interrupted",
        "seen",
        "at_work",
        "lock",
    ]
    assert to_jsonable(inspection)["lock"]["holder"]["since"] == "2030-01-02T03:04:05+00:00"
    assert [field.name for field in fields(Preview)] == [
        "state",
        "tasks",
        "revisions",
        "drops",
        "sql",
        "remark",
    ]


def test_a_holder_tells_all_that_a_waiter_wants_to_know() -> None:
    """Host, pid, run, release, since when, and where it is."""
    assert str(HOLDER) == (
        "box pid 42 (run abc, release 1.2, since 2030-01-02 03:04:05 UTC, at revision r7)"
    )


def test_a_holder_that_has_not_told_more_is_shown_without_gaps() -> None:
    """What is not known is left out."""
    holder = Holder(run_id="abc", host="box", pid=42, command="run", since=HOLDER.since)

    assert str(holder) == "box pid 42 (run abc, since 2030-01-02 03:04:05 UTC)"


def test_results_cannot_be_changed() -> None:
    """A report that is handed on stays what it was."""
    with pytest.raises(FrozenInstanceError):
        REPORT.led = False  # type: ignore[misc] # the point of the test


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_whatever_is_reported_is_json(value: Any) -> None:
    """Strict JSON, which every other program reads: no NaN, no Infinity."""
    json.dumps(to_jsonable(value), allow_nan=False)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TaskFailed("x", task="upgrade"), 1),
        (VerificationFailed("x"), 1),
        (PeerFailed("x", leader=HOLDER, error=ErrorReport(type="", message="", exit_code=1)), 1),
        (ConfigurationError("x"), 2),
        (LockTimeout("x", lock="file", holder=None, waited_seconds=1), 3),
        (StateRefused("x", state="behind"), 4),
        (DatabaseUnavailable("x", url="sqlite:///a.db"), 5),
    ],
)
def test_each_error_has_the_exit_code_of_the_design(error: OrchestratorError, code: int) -> None:
    """The code stands in the class, and in the report that results and events carry."""
    assert type(error).exit_code == code
    assert error.report() == ErrorReport(type=type(error).__name__, message="x", exit_code=code)
    assert error.applied == ()
