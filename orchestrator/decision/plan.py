"""What to do about a state: the two tables of the design.

Pure: the same decision is made again inside the transaction that does the work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from orchestrator.decision.job import Command, Policy
from orchestrator.decision.refusal import refusal, repeated
from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import ConfigurationError


class Task(StrEnum):
    """A piece of work; a plan is a sequence of them."""

    CREATE = "create"
    STAMP = "stamp"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    RESOLVE = "resolve"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The tasks, in order. None, and the database is left as it is."""

    tasks: tuple[Task, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks)

    @property
    def changes_tables(self) -> bool:
        """Whether it changes more than what is noted down about the database."""
        return not {Task.STAMP, Task.RESOLVE}.issuperset(self.tasks)


NOTHING: Final = Plan()
_UPGRADE: Final = Plan(tasks=(Task.UPGRADE,))
_STAMP: Final = Plan(tasks=(Task.STAMP,))
_DOWNGRADE: Final = Plan(tasks=(Task.DOWNGRADE,))
_CREATE: Final = Plan(tasks=(Task.CREATE, Task.STAMP))
_RESOLVE: Final = Plan(tasks=(Task.RESOLVE,))
_REFUSE: Final = None


_SINGLE: Final[dict[Command, dict[DatabaseState, Plan | None]]] = {
    Command.CREATE: {
        DatabaseState.ABSENT: _CREATE,
        DatabaseState.EMPTY: _CREATE,
        DatabaseState.UNVERSIONED: _REFUSE,
        DatabaseState.BEHIND: _REFUSE,
        DatabaseState.CURRENT: NOTHING,
        DatabaseState.UNRECOGNISED: _REFUSE,
        DatabaseState.INTERRUPTED: _REFUSE,
    },
    Command.STAMP: {
        DatabaseState.ABSENT: _REFUSE,
        DatabaseState.EMPTY: _REFUSE,
        DatabaseState.UNVERSIONED: _STAMP,
        DatabaseState.BEHIND: _STAMP,
        DatabaseState.CURRENT: _STAMP,
        DatabaseState.UNRECOGNISED: _REFUSE,
        DatabaseState.INTERRUPTED: _REFUSE,
    },
    Command.UPGRADE: {
        DatabaseState.ABSENT: _UPGRADE,
        DatabaseState.EMPTY: _UPGRADE,
        DatabaseState.UNVERSIONED: _REFUSE,
        DatabaseState.BEHIND: _UPGRADE,
        DatabaseState.CURRENT: NOTHING,
        DatabaseState.UNRECOGNISED: _REFUSE,
        DatabaseState.INTERRUPTED: _REFUSE,
    },
    Command.DOWNGRADE: {
        DatabaseState.ABSENT: _REFUSE,
        DatabaseState.EMPTY: _REFUSE,
        DatabaseState.UNVERSIONED: _REFUSE,
        DatabaseState.BEHIND: _DOWNGRADE,
        DatabaseState.CURRENT: _DOWNGRADE,
        DatabaseState.UNRECOGNISED: _REFUSE,
        DatabaseState.INTERRUPTED: _REFUSE,
    },
}


def decide(observation: Observation, policy: Policy, command: Command = Command.RUN) -> Plan:
    """Choose the tasks for what was observed.

    Raises `StateRefused` where the policy does not touch such a state, and
    `ConfigurationError` for an upgrade to a revision that the database is already beyond.
    """
    if _is_repeated(observation, policy, command):
        # Tables without a version row are what it has made of the first revision.
        observation = replace(observation, mark=None)
        policy = replace(policy, unversioned="upgrade")
    state = observation.state
    match command:
        case Command.RESOLVE:
            resolvable = observation.mark is not None and (
                observation.target == (observation.mark.revision,)
            )
            plan = _RESOLVE if resolvable else _REFUSE
        case Command.RUN:
            plan = _decide_run(observation, policy)
        case Command.CREATE if not policy.stamp_created:
            plan = _SINGLE[command][state] and Plan(tasks=(Task.CREATE,))
        case Command.STAMP if (
            policy.force and state in (DatabaseState.ABSENT, DatabaseState.EMPTY)
        ) or (policy.purge and state is DatabaseState.UNRECOGNISED):
            plan = _STAMP
        case Command.UPGRADE if (
            state is DatabaseState.UNVERSIONED and policy.unversioned == "upgrade"
        ):
            plan = _UPGRADE
        case Command.UPGRADE if state is DatabaseState.CURRENT and not _ends_at_target(observation):
            raise ConfigurationError(
                f"The database is already beyond {', '.join(observation.target) or 'base'}: it is "
                f"at {', '.join(observation.versions)}. Nothing was changed. To go back, use "
                f"`orchestrator downgrade {' '.join(observation.target) or 'base'}`.",
                setting="target",
            )
        case _:
            plan = _SINGLE[command][state]
    if plan is None:
        raise refusal(observation, policy, command)
    if plan and not policy.purge and len(set(observation.versions)) < len(observation.versions):
        raise repeated(observation)
    return plan


def _decide_run(observation: Observation, policy: Policy) -> Plan | None:
    match observation.state:
        case DatabaseState.ABSENT | DatabaseState.EMPTY:
            if policy.bootstrap == "create":
                return _CREATE
            return _UPGRADE if observation.missing else NOTHING
        case DatabaseState.UNVERSIONED if policy.unversioned == "upgrade":
            return _UPGRADE
        case DatabaseState.UNVERSIONED:
            # None differs from (): nobody has compared.
            adopt = policy.unversioned == "adopt" and observation.differences == ()
            return _STAMP if adopt else _REFUSE
        case DatabaseState.BEHIND:
            return _UPGRADE
        case DatabaseState.CURRENT:
            return NOTHING
        case DatabaseState.UNRECOGNISED:
            return NOTHING if policy.unrecognised == "accept" else _REFUSE
        case DatabaseState.INTERRUPTED:
            return _REFUSE


def _is_repeated(observation: Observation, policy: Policy, command: Command) -> bool:
    """Whether the revision that was interrupted is run again from its beginning."""
    if observation.mark is None or policy.interrupted != "retry":
        return False
    ways = (Command.DOWNGRADE,) if observation.mark.down else (Command.RUN, Command.UPGRADE)
    return command in ways


def adopts(observation: Observation, policy: Policy) -> bool:
    """Whether what a run does depends on how the database differs from the metadata."""
    return policy.unversioned == "adopt" and observation.state is DatabaseState.UNVERSIONED


def _ends_at_target(observation: Observation) -> bool:
    """Whether nothing of the database lies beyond the target.

    Version rows of other branches, and targets that are complete through a dependency, have
    no row of their own: only a single revision that is no row itself can have been passed, and
    the base.
    """
    if not observation.target:
        return not observation.versions
    return len(observation.target) != 1 or observation.target[0] in observation.versions
