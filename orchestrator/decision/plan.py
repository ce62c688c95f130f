"""What to do about a state: the two tables of the design, and the words of a refusal.

Pure: the same decision is made again inside the transaction that does the work.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import ConfigurationError, StateRefused, by_setting


class Command(StrEnum):
    """What was asked for. `RUN` follows the policy; the others are single tasks."""

    RUN = "run"
    CREATE = "create"
    STAMP = "stamp"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"


class Task(StrEnum):
    """A piece of work; a plan is a sequence of them."""

    CREATE = "create"
    STAMP = "stamp"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What may be done: the settings of a run, and the options of a single command."""

    bootstrap: Literal["upgrade", "create"] = "upgrade"
    unversioned: Literal["refuse", "adopt", "upgrade"] = "refuse"
    unrecognised: Literal["refuse", "accept"] = "refuse"
    stamp_created: bool = True
    force: bool = False
    purge: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What was asked for. `target` is as it was given: it may be relative."""

    command: Command
    target: str
    policy: Policy


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The tasks, in order. None, and the database is left as it is."""

    tasks: tuple[Task, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.tasks)


NOTHING: Final = Plan()
_UPGRADE: Final = Plan(tasks=(Task.UPGRADE,))
_STAMP: Final = Plan(tasks=(Task.STAMP,))
_DOWNGRADE: Final = Plan(tasks=(Task.DOWNGRADE,))
_CREATE: Final = Plan(tasks=(Task.CREATE, Task.STAMP))
_REFUSE: Final = None
_SHOWN_TABLES: Final = 5

_SINGLE: Final[dict[Command, dict[DatabaseState, Plan | None]]] = {
    Command.CREATE: {
        DatabaseState.ABSENT: _CREATE,
        DatabaseState.EMPTY: _CREATE,
        DatabaseState.UNVERSIONED: _REFUSE,
        DatabaseState.BEHIND: _REFUSE,
        DatabaseState.CURRENT: NOTHING,
        DatabaseState.UNRECOGNISED: _REFUSE,
    },
    Command.STAMP: {
        DatabaseState.ABSENT: _REFUSE,
        DatabaseState.EMPTY: _REFUSE,
        DatabaseState.UNVERSIONED: _STAMP,
        DatabaseState.BEHIND: _STAMP,
        DatabaseState.CURRENT: _STAMP,
        DatabaseState.UNRECOGNISED: _REFUSE,
    },
    Command.UPGRADE: {
        DatabaseState.ABSENT: _UPGRADE,
        DatabaseState.EMPTY: _UPGRADE,
        DatabaseState.UNVERSIONED: _REFUSE,
        DatabaseState.BEHIND: _UPGRADE,
        DatabaseState.CURRENT: NOTHING,
        DatabaseState.UNRECOGNISED: _REFUSE,
    },
    Command.DOWNGRADE: {
        DatabaseState.ABSENT: _REFUSE,
        DatabaseState.EMPTY: _REFUSE,
        DatabaseState.UNVERSIONED: _REFUSE,
        DatabaseState.BEHIND: _DOWNGRADE,
        DatabaseState.CURRENT: _DOWNGRADE,
        DatabaseState.UNRECOGNISED: _REFUSE,
    },
}


def decide(observation: Observation, policy: Policy, command: Command = Command.RUN) -> Plan:
    """Choose the tasks for what was observed.

    Raises `StateRefused` where the policy does not touch such a state, and
    `ConfigurationError` for an upgrade to a revision that the database is already beyond.
    """
    state = observation.state
    match command:
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
                f"The database is already beyond {', '.join(observation.target)}: it is at "
                f"{', '.join(observation.versions)}. Nothing was changed. To go back, use "
                f"`orchestrator downgrade {' '.join(observation.target)}`.",
                setting="target",
            )
        case _:
            plan = _SINGLE[command][state]
    if plan is None:
        raise _refusal(observation, policy, command)
    if plan and not policy.purge and len(set(observation.versions)) < len(observation.versions):
        raise _repeated(observation)
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


def _ends_at_target(observation: Observation) -> bool:
    """Whether nothing of the database lies beyond the target.

    Version rows of other branches, and targets that are complete through a dependency, have
    no row of their own: only a single revision that is no row itself can have been passed.
    """
    return len(observation.target) != 1 or observation.target[0] in observation.versions


def work_to_do(observation: Observation, database: str) -> StateRefused:
    """What to say where a run would have work to do and may do none (`mode = "require"`)."""
    match observation.state:
        case DatabaseState.ABSENT:
            found = "does not exist"
        case DatabaseState.EMPTY:
            found = "is empty"
        case DatabaseState.UNVERSIONED:
            found = "has tables but no version row"
        case _:
            found = (
                f"is at {', '.join(observation.versions)}, behind {', '.join(observation.target)}"
            )
    advice = (
        "To migrate it, use `orchestrator run --mode migrate`; then start again, or save a file "
        "where a server reloads."
    )
    return StateRefused(
        f'The database {database} {found}, and `mode` is "require": nothing is migrated. '
        f"Nothing was changed. {advice}",
        state=observation.state,
        found=observation.missing,
        advice=advice,
    )


def _repeated(observation: Observation) -> StateRefused:
    once = sorted(set(observation.versions))
    twice = [one for one in once if observation.versions.count(one) > 1]
    advice = f"Use `orchestrator stamp --purge {' '.join(once)}`, which leaves one of each."
    return StateRefused(
        f"The version table has {', '.join(twice)} more than once, and Alembic changes a row only "
        f"where there is one. Nothing was changed. {advice}",
        state=observation.state,
        found=tuple(twice),
        advice=advice,
    )


def _refusal(observation: Observation, policy: Policy, command: Command) -> StateRefused:
    found, advice = _describe(observation, policy, command)
    return StateRefused(
        f"{found} Nothing was changed. {advice}".rstrip(),
        state=observation.state,
        found=observation.unknown or observation.differences or observation.tables,
        advice=advice,
    )


def _describe(observation: Observation, policy: Policy, command: Command) -> tuple[str, str]:
    match observation.state:
        case DatabaseState.UNVERSIONED if policy.unversioned == "adopt" and command is Command.RUN:
            listed = "".join(f"\n  - {line}" for line in observation.differences or ())
            return (
                (
                    f"The database has tables but no version row, and differs from the metadata:"
                    f"{listed}\n"
                ),
                (
                    "Bring the two together, or stamp the revision that the tables really are at "
                    "with `orchestrator stamp REVISION`."
                ),
            )
        case DatabaseState.UNVERSIONED:
            return (
                (
                    f"The database has {_count(observation.tables)} but no version row, so it "
                    "cannot be told which revisions it has."
                ),
                (
                    "If it was made from the models, set "
                    f"{by_setting('unversioned', 'adopt')}: it is then compared with the metadata "
                    "and stamped if equal. If you know its revision, use "
                    "`orchestrator stamp REVISION`. If all revisions are to run on these tables, "
                    f"as Alembic runs them, set {by_setting('unversioned', 'upgrade')}."
                ),
            )
        case DatabaseState.UNRECOGNISED if command is not Command.RUN:
            return (
                f"The database is at {', '.join(observation.unknown)}, which no script has.",
                (
                    "Get the script back, from the release or the branch that has it; or, if the "
                    "row is wrong, replace it with `orchestrator stamp --purge REVISION`."
                ),
            )
        case DatabaseState.UNRECOGNISED:
            return (
                (
                    f"The database is at {', '.join(observation.unknown)}, which no script of this "
                    "release has: a later release may have migrated it."
                ),
                (
                    "Deploy the release that has it; or, to serve on it as it is, set "
                    f"{by_setting('unrecognised', 'accept')}; or, if the row is wrong, "
                    "replace it with `orchestrator stamp --purge REVISION`."
                ),
            )
        case DatabaseState.BEHIND:
            return (
                f"The database is at {', '.join(observation.versions)} and has tables already.",
                "Use `orchestrator upgrade`.",
            )
        case state if command is Command.STAMP:
            return (
                f"The database is {state}: there is nothing that a stamp could be true of.",
                "Use `orchestrator run` to make it, or `--force` to stamp it all the same.",
            )
        case state:
            return (f"The database is {state}: there is nothing to {command}.", "")


def _count(tables: tuple[str, ...]) -> str:
    shown = ", ".join(tables[:_SHOWN_TABLES]) + (", …" if tables[_SHOWN_TABLES:] else "")
    return f"{len(tables)} table{'s' if len(tables) != 1 else ''} ({shown})"
