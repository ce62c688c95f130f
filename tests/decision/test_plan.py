"""Both tables of the design: what is done about a state, and the words of a refusal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.decision.job import Command, Policy
from orchestrator.decision.plan import NOTHING, decide
from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import ConfigurationError, OrchestratorError, StateRefused
from orchestrator.results import Mark
from tests.decision.test_state import observations

ABSENT = Observation(exists=False, target=("r2",), missing=("r2",))
EMPTY = Observation(target=("r2",), missing=("r2",))
UNVERSIONED = Observation(tables=("artist", "album"), target=("r2",), missing=("r2",))
BEHIND = Observation(tables=("artist",), versions=("r1",), target=("r2",), missing=("r2",))
CURRENT = Observation(tables=("artist",), versions=("r2",), target=("r2",))
UNRECOGNISED = Observation(
    tables=("artist",), versions=("x9",), target=("r2",), unknown=("x9",), missing=("r2",)
)
INTERRUPTED = Observation(
    tables=("artist",),
    versions=("r1",),
    target=("r2",),
    missing=("r2",),
    mark=Mark(revision="r2", statement=3, committed=2, process="web-1 pid 7"),
)
EXAMPLES = {
    one.state: one
    for one in (ABSENT, EMPTY, UNVERSIONED, BEHIND, CURRENT, UNRECOGNISED, INTERRUPTED)
}

policies = st.builds(
    Policy,
    bootstrap=st.sampled_from(["upgrade", "create"]),
    unversioned=st.sampled_from(["refuse", "adopt", "upgrade"]),
    unrecognised=st.sampled_from(["refuse", "accept"]),
    stamp_created=st.booleans(),
    force=st.booleans(),
    purge=st.booleans(),
)


def outcome(observation: Observation, command: Command, policy: Policy) -> str:
    """The tasks of the plan, or `refuse`."""
    try:
        return " ".join(decide(observation, policy, command).tasks)
    except StateRefused:
        return "refuse"


def test_the_examples_are_one_of_each_state() -> None:
    """No row of the tables goes untested."""
    assert list(EXAMPLES) == list(DatabaseState)


@pytest.mark.parametrize(
    ("state", "bootstrap", "tasks"),
    [
        ("absent", "upgrade", "upgrade"),
        ("absent", "create", "create stamp"),
        ("empty", "upgrade", "upgrade"),
        ("empty", "create", "create stamp"),
        ("unversioned", "upgrade", "refuse"),
        ("unversioned", "create", "refuse"),
        ("behind", "upgrade", "upgrade"),
        ("behind", "create", "upgrade"),
        ("current", "upgrade", ""),
        ("current", "create", ""),
        ("unrecognised", "upgrade", "refuse"),
        ("unrecognised", "create", "refuse"),
        ("interrupted", "upgrade", "refuse"),
        ("interrupted", "create", "refuse"),
    ],
)
def test_run_by_state_and_bootstrap(state: DatabaseState, bootstrap: str, tasks: str) -> None:
    """The first table of the design, cell by cell."""
    policy = Policy(bootstrap=bootstrap)  # type: ignore[arg-type] # a parameter is a str

    assert outcome(EXAMPLES[state], Command.RUN, policy) == tasks


@pytest.mark.parametrize(
    ("command", "tasks"),
    [
        ("create", ["create stamp", "create stamp", "refuse", "refuse", "", "refuse", "refuse"]),
        ("stamp", ["refuse", "refuse", "stamp", "stamp", "stamp", "refuse", "refuse"]),
        ("upgrade", ["upgrade", "upgrade", "refuse", "upgrade", "", "refuse", "refuse"]),
        ("downgrade", ["refuse", "refuse", "refuse", "downgrade", "downgrade", "refuse", "refuse"]),
        ("resolve", ["refuse"] * 6 + ["resolve"]),
    ],
)
def test_single_commands_by_state(command: str, tasks: list[str]) -> None:
    """The second table of the design, cell by cell."""
    found = [outcome(one, Command(command), Policy()) for one in EXAMPLES.values()]

    assert found == tasks


@pytest.mark.parametrize(
    ("command", "policy", "tasks"),
    [
        (
            "create",
            Policy(stamp_created=False),
            ["create", "create", "refuse", "refuse", "", "refuse", "refuse"],
        ),
        ("stamp", Policy(force=True), ["stamp"] * 5 + ["refuse"] * 2),
        ("stamp", Policy(purge=True), ["refuse"] * 2 + ["stamp"] * 4 + ["refuse"]),
        ("stamp", Policy(force=True, purge=True), ["stamp"] * 6 + ["refuse"]),
        (
            "upgrade",
            Policy(force=True, purge=True),
            ["upgrade", "upgrade", "refuse", "upgrade", "", "refuse", "refuse"],
        ),
    ],
)
def test_options_widen_only_their_own_cells(command: str, policy: Policy, tasks: list[str]) -> None:
    """`--no-stamp`, `--force` and `--purge` change what the design says, and nothing else."""
    found = [outcome(one, Command(command), policy) for one in EXAMPLES.values()]

    assert found == tasks


@pytest.mark.parametrize("command", [command for command in Command if command != "run"])
def test_the_policy_of_a_run_says_nothing_about_single_commands(command: Command) -> None:
    """`bootstrap`, `unversioned` and `unrecognised` are settings of `run` alone."""
    lenient = Policy(bootstrap="create", unversioned="adopt", unrecognised="accept")

    for observation in EXAMPLES.values():
        assert outcome(observation, command, lenient) == outcome(observation, command, Policy())


def test_what_was_interrupted_is_repeated_only_in_its_own_direction() -> None:
    """With `interrupted = "retry"` a run repeats an upgrade, and never ends a downgrade."""
    policy = Policy(interrupted="retry")
    down = replace(INTERRUPTED, mark=Mark(revision="r1", down=True))

    assert outcome(INTERRUPTED, Command.RUN, policy) == "upgrade"
    assert outcome(INTERRUPTED, Command.UPGRADE, policy) == "upgrade"
    assert outcome(INTERRUPTED, Command.DOWNGRADE, policy) == "refuse"
    assert outcome(down, Command.RUN, policy) == "refuse"
    assert outcome(down, Command.DOWNGRADE, policy) == "downgrade"
    assert outcome(down, Command.RESOLVE, policy) == "refuse"  # r2 was not begun


@pytest.mark.parametrize(
    ("differences", "tasks"), [((), "stamp"), (("add table b",), "refuse"), (None, "refuse")]
)
def test_adoption_needs_a_comparison_without_differences(
    differences: tuple[str, ...] | None, tasks: str
) -> None:
    """Only tables that were compared, and equal the metadata, are stamped."""
    observation = Observation(
        tables=("a",), target=("r2",), missing=("r2",), differences=differences
    )

    assert outcome(observation, Command.RUN, Policy(unversioned="adopt")) == tasks


@pytest.mark.parametrize("command", [Command.RUN, Command.UPGRADE])
def test_revisions_can_be_run_on_the_tables_that_are_there(command: Command) -> None:
    """With `unversioned = "upgrade"`, as Alembic does; no other command goes by it."""
    policy = Policy(unversioned="upgrade")

    assert outcome(UNVERSIONED, command, policy) == "upgrade"
    assert outcome(UNVERSIONED, Command.CREATE, policy) == "refuse"
    assert outcome(UNVERSIONED, Command.DOWNGRADE, policy) == "refuse"


def test_a_refused_adoption_lists_the_differences() -> None:
    """Every difference stands in the message and in `found`."""
    observation = Observation(
        tables=("a",), target=("r2",), missing=("r2",), differences=("add table b", "remove x")
    )

    with pytest.raises(StateRefused, match=r"(?s)- add table b.*- remove x") as caught:
        decide(observation, Policy(unversioned="adopt"))

    assert caught.value.found == ("add table b", "remove x")


def test_accepting_an_unknown_version_does_nothing_to_it() -> None:
    """`unrecognised = "accept"` is ready as it is."""
    assert decide(UNRECOGNISED, Policy(unrecognised="accept")) == NOTHING


@given(observations, policies)
def test_a_run_at_the_target_has_nothing_to_do(observation: Observation, policy: Policy) -> None:
    """Whatever the policy: what is current is left alone, and only that needs no permission."""
    if observation.state is DatabaseState.CURRENT:
        assert decide(observation, policy) == NOTHING


@given(observations, policies, st.sampled_from(Command))
def test_every_decision_is_a_plan_or_an_error_with_words(
    observation: Observation, policy: Policy, command: Command
) -> None:
    """Nothing else is ever raised, and tables are only ever created where there are none."""
    error = None
    tasks: tuple[str, ...] = ()
    try:
        tasks = decide(observation, policy, command).tasks
    except OrchestratorError as raised:
        error = raised

    assert error is None or "Nothing was changed." in str(error)
    if "create" in tasks:
        assert observation.state in (DatabaseState.ABSENT, DatabaseState.EMPTY)
    if command is not Command.RUN:
        assert set(tasks) <= {command, "stamp"}


@pytest.mark.parametrize(
    ("observation", "command", "found", "advice"),
    [
        (UNVERSIONED, "run", "2 tables (artist, album) but no version row", '"adopt"'),
        (UNVERSIONED, "run", "2 tables (artist, album) but no version row", '"upgrade"'),
        (UNVERSIONED, "create", "2 tables (artist, album)", "orchestrator stamp REVISION"),
        (UNVERSIONED, "upgrade", "2 tables (artist, album)", "orchestrator stamp REVISION"),
        (UNVERSIONED, "downgrade", "2 tables (artist, album)", "orchestrator stamp REVISION"),
        (UNRECOGNISED, "run", "at x9", '"accept"'),
        (UNRECOGNISED, "stamp", "at x9", "--purge"),
        (UNRECOGNISED, "upgrade", "at x9", "--purge"),
        (UNRECOGNISED, "downgrade", "at x9", "--purge"),
        (UNRECOGNISED, "create", "at x9", "--purge"),
        (INTERRUPTED, "run", "the upgrade of r2, begun by web-1 pid 7", "resolve --applied r2"),
        (INTERRUPTED, "upgrade", "Its statement 3 may or may not", "resolve --rolled-back r2"),
        (INTERRUPTED, "stamp", "interrupted", "interrupted=retry"),
        (BEHIND, "resolve", "behind, not interrupted", ""),
        (BEHIND, "create", "at r1 and has tables already", "orchestrator upgrade"),
        (ABSENT, "stamp", "absent", "--force"),
        (EMPTY, "stamp", "empty", "orchestrator run"),
        (ABSENT, "downgrade", "absent: there is nothing to downgrade", ""),
        (EMPTY, "downgrade", "empty: there is nothing to downgrade", ""),
    ],
)
def test_a_refusal_says_what_was_found_and_what_to_do(
    observation: Observation, command: str, found: str, advice: str
) -> None:
    """The message names what was found, that nothing was changed, and the way out."""
    with pytest.raises(StateRefused, match=re.escape(found)) as caught:
        decide(observation, Policy(), Command(command))

    assert caught.value.state == observation.state
    assert "Nothing was changed." in str(caught.value)
    assert advice in caught.value.advice
    assert caught.value.advice in str(caught.value)
    assert caught.value.exit_code == 4


def test_many_tables_are_counted_and_not_all_listed() -> None:
    """A refusal stays readable for a database with a thousand tables."""
    tables = tuple(f"t{number}" for number in range(1000))

    with pytest.raises(StateRefused) as caught:
        decide(Observation(tables=tables, target=("r1",), missing=("r1",)), Policy())

    assert "1000 tables (t0, t1, t2, t3, t4, …)" in str(caught.value)
    assert caught.value.found == tables


def test_a_project_without_revisions_has_nothing_to_upgrade() -> None:
    """With no revision at all, an empty database is left as it is, and tables are current."""
    assert decide(Observation(), Policy()) == NOTHING
    assert decide(Observation(tables=("a",)), Policy()) == NOTHING


def test_an_upgrade_to_a_revision_behind_is_an_error() -> None:
    """A single `upgrade` does not quietly do nothing when its target was passed long ago."""
    beyond = Observation(tables=("t",), versions=("r2",), target=("r1",))

    with pytest.raises(ConfigurationError, match="already beyond r1: it is at r2") as caught:
        decide(beyond, Policy(), Command.UPGRADE)

    assert "orchestrator downgrade r1" in str(caught.value)
    assert decide(beyond, Policy(), Command.RUN) == NOTHING
