"""When a revision may be made of what differs: only of a database at the heads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decision.authoring import require_heads
from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import StateRefused

names = st.lists(st.sampled_from(["r1", "r2", "t"]), max_size=2, unique=True).map(tuple)


@given(
    st.builds(
        Observation,
        exists=st.booleans(),
        tables=names,
        versions=names,
        target=names,
        unknown=names,
        missing=names,
    )
)
def test_it_is_refused_exactly_where_something_is_missing_or_unknown(seen: Observation) -> None:
    """And the error says in which state the database is, that nothing was written, what to do."""
    at_heads = not seen.missing and seen.state is not DatabaseState.UNRECOGNISED

    if at_heads:
        require_heads(seen)
        return
    with pytest.raises(StateRefused) as refused:
        require_heads(seen)
    assert refused.value.state == seen.state
    assert refused.value.advice in str(refused.value)
    assert "No revision was written." in str(refused.value)
    assert "{" not in str(refused.value)


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (Observation(exists=False, missing=("r2",)), ("not exist", "r2", "`upgrade it`")),
        (Observation(missing=("r2",)), ("empty", "r2", "`upgrade it`")),
        (
            Observation(versions=("r1",), tables=("t",), missing=("r2",)),
            ("at r1", "lacks r2", "`upgrade it`"),
        ),
        (
            Observation(tables=("t",), missing=("r2",)),
            ("no version row", "`orchestrator stamp heads`", '`unversioned = "adopt"`'),
        ),
        (
            Observation(versions=("x9",), unknown=("x9",)),
            ("at x9", "no revision file", "stamp --purge"),
        ),
    ],
    ids=lambda value: str(value.state) if isinstance(value, Observation) else "",
)
def test_each_state_has_its_words(seen: Observation, words: tuple[str, ...]) -> None:
    """What was found, and the way out of it."""
    with pytest.raises(StateRefused) as refused:
        require_heads(seen, upgrade="upgrade it")

    assert [word for word in words if word not in str(refused.value)] == []


def test_a_project_without_revisions_is_at_its_heads() -> None:
    """So that the first one can be made where there is no database yet."""
    require_heads(Observation(exists=False))
    require_heads(Observation())
    require_heads(Observation(tables=("t",)))
