"""Which state an observation has."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decision.state import DatabaseState, Observation, classify
from orchestrator.results import Mark

names = st.lists(st.sampled_from(["a", "b", "c"]), unique=True, max_size=3).map(tuple)
observations = st.builds(
    Observation,
    exists=st.booleans(),
    tables=names,
    versions=names,
    target=names,
    unknown=names,
    missing=names,
    differences=st.none() | names,
    mark=st.none() | st.just(Mark(revision="r1")),
)


@given(observations)
def test_every_observation_has_exactly_one_state(observation: Observation) -> None:
    """`classify` is total, and exactly one of the design's seven descriptions fits."""
    unmarked = observation.mark is None
    known = observation.exists and unmarked and not observation.unknown
    bare = not observation.tables and not observation.versions
    reached = not observation.missing
    fits = {
        DatabaseState.ABSENT: not observation.exists,
        DatabaseState.INTERRUPTED: observation.exists and not unmarked,
        DatabaseState.UNRECOGNISED: observation.exists and unmarked and bool(observation.unknown),
        DatabaseState.EMPTY: known and bare,
        DatabaseState.CURRENT: known and not bare and reached,
        DatabaseState.BEHIND: known and bool(observation.versions) and not reached,
        DatabaseState.UNVERSIONED: known
        and bool(observation.tables)
        and not observation.versions
        and not reached,
    }

    assert [state for state, fit in fits.items() if fit] == [classify(observation)]
    assert observation.state is classify(observation)


@given(observations)
def test_a_comparison_with_the_metadata_does_not_change_the_state(observation: Observation) -> None:
    """The state is told by tables and version rows alone."""
    other = Observation(
        **{name: getattr(observation, name) for name in _FIELDS if name != "differences"}
    )

    assert classify(other) is classify(observation)


@pytest.mark.parametrize(
    ("seen", "state"),
    [
        ({"exists": False, "missing": ("r1",)}, "absent"),
        ({"missing": ("r1",)}, "empty"),
        ({}, "empty"),
        ({"tables": ("t",), "missing": ("r1",)}, "unversioned"),
        ({"tables": ("t",)}, "current"),
        ({"tables": ("t",), "versions": ("r1",), "missing": ("r2",)}, "behind"),
        ({"versions": ("r1",), "missing": ("r2",)}, "behind"),
        ({"versions": ("r1",)}, "current"),
        ({"versions": ("x",), "unknown": ("x",), "missing": ("r1",)}, "unrecognised"),
        ({"versions": ("r1", "x"), "unknown": ("x",)}, "unrecognised"),
    ],
)
def test_states_by_example(seen: dict[str, Any], state: str) -> None:
    """The states are those of the design's table; a version row without tables counts."""
    assert Observation(**seen).state == state


_FIELDS = ("exists", "tables", "versions", "target", "unknown", "missing", "differences", "mark")
