"""Events: their table, and their way through JSON."""

from __future__ import annotations

import json
from dataclasses import MISSING, FrozenInstanceError, fields
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator import events
from orchestrator.events import EVENTS, NAMES, TERMINAL, Event, from_dict, level_of, to_dict
from orchestrator.results import AppliedRevision, Blocker, Holder

# A lone surrogate cannot be written as UTF-8, in a journal as anywhere else.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
zones = st.sampled_from([UTC, timezone(timedelta(hours=-3, minutes=-30))])
moments = st.datetimes(timezones=zones)
seconds = st.floats(min_value=0, allow_nan=False)
holders = st.builds(
    Holder,
    run_id=texts,
    host=texts,
    pid=st.integers(1, 2**31),
    command=texts,
    since=moments,
    release=st.none() | texts,
    task=st.none() | texts,
    revision=st.none() | texts,
    statement=st.none() | texts,
    blocked_by=st.none() | texts,
)
blockers = st.lists(
    st.builds(
        Blocker,
        pid=st.integers(1, 2**31),
        user=st.none() | texts,
        application=st.none() | texts,
        state=st.none() | texts,
        since=st.none() | moments,
        query=st.none() | texts,
    ),
    max_size=3,
).map(tuple)
applied = st.lists(
    st.builds(
        AppliedRevision, revision=texts, description=texts, duration_seconds=st.floats(0, 10**9)
    ),
    max_size=3,
).map(tuple)
by_annotation: dict[str, st.SearchStrategy[Any]] = {
    "str": texts,
    "str | None": st.none() | texts,
    "int": st.integers(0, 10**6),
    "int | None": st.none() | st.integers(0, 10**6),
    "bool": st.booleans(),
    "float": seconds,
    "float | None": st.none() | st.floats(0, 100),
    "datetime": moments,
    "Holder | None": st.none() | holders,
    "tuple[str, ...]": st.lists(texts, max_size=3).map(tuple),
    "tuple[AppliedRevision, ...]": applied,
    "tuple[Blocker, ...]": blockers,
}


def instances(event: type[Event]) -> st.SearchStrategy[Event]:
    """Any instance of an event's class."""
    return st.builds(event, **{one.name: by_annotation[str(one.type)] for one in fields(event)})


any_event = st.sampled_from(list(EVENTS.values())).flatmap(instances)
EXAMPLES = [event(**{one.name: None for one in fields(event)}) for event in EVENTS.values()]


@given(any_event)
def test_every_event_survives_the_way_through_json(event: Event) -> None:
    """What is written to the journal and read again is equal, whatever stands in it."""
    written = json.dumps(to_dict(event), allow_nan=False)

    assert from_dict(json.loads(written)) == event


@given(any_event, st.dictionaries(texts.map(lambda name: f"x_{name}"), texts, max_size=3))
def test_keys_of_the_envelope_are_passed_over(event: Event, envelope: dict[str, str]) -> None:
    """A reader of today reads what a later writer has added."""
    assert from_dict({**to_dict(event), **envelope}) == event


def test_every_class_has_a_name_and_every_name_a_class() -> None:
    """The table is complete, and its names are those of the classes."""
    defined = {
        value
        for value in vars(events).values()
        if isinstance(value, type) and issubclass(value, Event) and value is not Event
    }

    assert set(EVENTS.values()) == defined
    assert {event: name for name, event in EVENTS.items()} == NAMES
    for name, event in EVENTS.items():
        # The one exception: a class must not take the name of a builtin.
        called = {"warning": "warned"}.get(name, name)
        assert called.replace("_", "") == event.__name__.lower()


def test_exactly_three_events_are_terminal() -> None:
    """Ready, failed and cancelled are the only ends of a run."""
    assert [NAMES[event] for event in TERMINAL] == ["database_ready", "run_failed", "run_cancelled"]


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: NAMES[type(event)])
def test_events_cannot_be_changed(event: Event) -> None:
    """Sinks and subscribers share one object, and none can alter it for the others."""
    with pytest.raises(FrozenInstanceError):
        event.run_id = "other"  # type: ignore[misc] # the point of the test


@pytest.mark.parametrize("event", EVENTS.values(), ids=list(EVENTS))
def test_events_are_keyword_only(event: type[Event]) -> None:
    """A new field cannot shift the meaning of another."""
    with pytest.raises(TypeError, match="positional"):
        event("text")  # type: ignore[misc] # the point of the test


@pytest.mark.parametrize("event", EVENTS.values(), ids=list(EVENTS))
def test_an_event_that_lacks_a_field_cannot_be_read(event: type[Event]) -> None:
    """Each of its own fields is asked for by name, except those with a default."""
    values = {"event": NAMES[event]}
    own = [one.name for one in fields(event) if one.default is MISSING]

    for name in own:
        with pytest.raises(ValueError, match=rf"lacks {name}"):
            from_dict(values)
        values[name] = _PLAIN.get(name, "")

    assert isinstance(from_dict(values), event)


_PLAIN: dict[str, Any] = {
    **dict.fromkeys(("position", "total", "attempt", "exit_code"), 1),
    "applied": [],
    "versions": [],
    "holder": None,
    "duration_seconds": 1,
    "waited_seconds": 1,
    "held_seconds": 1,
    "elapsed_seconds": 1,
    "retry_in_seconds": 1,
    "lock_timeout_seconds": 1,
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"event": None},
        {"event": ["run_started"]},
        {"event": "run_begun"},
        {"event": "run_cancelled", "applied": 3},
        {"event": "run_cancelled", "applied": [3]},
        {"event": "run_cancelled", "applied": [{"name": "x"}]},
        {"event": "run_cancelled", "applied": [], "at": "yesterday"},
        {"event": "run_cancelled", "applied": [], "at": 3},
        {"event": "task_succeeded", "task": "x", "duration_seconds": "long"},
        {"event": "task_succeeded", "task": "x", "duration_seconds": None},
        {"event": "lock_waiting", "lock": "x", "waited_seconds": 1, "holder": "somebody"},
        {"event": "lock_waiting", "lock": "x", "waited_seconds": 1, "holder": {"host": "h"}},
        {"event": "database_ready", "blockers": [{"user": "u"}]},
    ],
)
def test_what_is_no_event_is_a_value_error(values: dict[str, Any]) -> None:
    """A damaged line is told by one kind of error, which readers expect."""
    with pytest.raises(ValueError, match=r".+"):
        from_dict(values)


def test_an_endless_timeout_is_written_as_json_has_it() -> None:
    """`inf` has no word in JSON; it is written as the settings write it."""
    event = events.RunStarted(
        command="run", mode="migrate", target="heads", lock_timeout_seconds=float("inf")
    )

    assert to_dict(event)["lock_timeout_seconds"] == "inf"
    assert from_dict(to_dict(event)) == event


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (events.RunFailed(error="", message="", exit_code=1, applied=()), "error"),
        (
            events.TaskFailed(task="", revision=None, error="", message="", rolled_back=True),
            "error",
        ),
        (events.RunCancelled(applied=()), "warning"),
        (
            events.StateObserved(
                state="unrecognised", versions=(), target_revisions=(), under_lock=False
            ),
            "warning",
        ),
        (
            events.StateObserved(
                state="behind", versions=(), target_revisions=(), under_lock=False
            ),
            "info",
        ),
        (events.TaskStarted(task="upgrade"), "info"),
    ],
)
def test_levels(event: Event, level: str) -> None:
    """Failures are errors; what a person should look at is a warning; the rest is info."""
    assert level_of(event) == level


def test_the_first_keys_of_an_event_say_what_when_and_who() -> None:
    """A line of the journal can be read from its beginning."""
    event = events.TaskStarted(
        task="upgrade", run_id="abc", sequence=3, at=datetime(2030, 1, 2, tzinfo=UTC)
    )

    assert list(to_dict(event).items()) == [
        ("event", "task_started"),
        ("at", "2030-01-02T00:00:00+00:00"),
        ("run_id", "abc"),
        ("sequence", 3),
        ("task", "upgrade"),
    ]
