"""What is said of a database that is not touched: what was found, and what to do. Pure."""

from __future__ import annotations

from typing import Final

from orchestrator.decision.job import Command, Policy
from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import StateRefused, by_setting
from orchestrator.results import Mark

_SHOWN_TABLES: Final = 5
_SEEN: Final = {
    DatabaseState.INTERRUPTED: "is interrupted in {revision}, which `orchestrator run` refuses",
    DatabaseState.UNVERSIONED: "has tables but no version row, which `orchestrator run` refuses",
    DatabaseState.UNRECOGNISED: (
        "is at {unknown}, which no script has, and which `orchestrator run` refuses"
    ),
}


def work_to_do(observation: Observation, database: str) -> StateRefused:
    """What to say where a run would have work to do and may do none (`mode = "require"`)."""
    match observation.state:
        case DatabaseState.ABSENT:
            found = "does not exist"
        case DatabaseState.EMPTY:
            found = "is empty"
        case DatabaseState.UNVERSIONED:
            found = "has tables but no version row"
        case DatabaseState.INTERRUPTED if observation.at_work:
            found = f"is at work on {observation.mark}"
        case DatabaseState.INTERRUPTED:
            found = f"is interrupted in {observation.mark.revision if observation.mark else '?'}"
        case _:
            found = (
                f"is at {', '.join(observation.versions)}, behind {', '.join(observation.target)}"
            )
    advice = (
        "To migrate it, use `orchestrator run --mode migrate` (with `--app MODULE:OBJECT`, where "
        "the application's code has the settings); then start again, or save a file where a server "
        "reloads."
    )
    if observation.at_work:
        advice = "Wait for that: `orchestrator wait`; then start again."
    return StateRefused(
        f'The database {database} {found}, and `mode` is "require": nothing is migrated. '
        f"Nothing was changed. {advice}",
        state=observation.state,
        found=observation.missing,
        advice=advice,
        seen=found,
    )


def repeated(observation: Observation) -> StateRefused:
    """What to say of a version table that has a row twice."""
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


def refusal(observation: Observation, policy: Policy, command: Command) -> StateRefused:
    """What to say of a database that this command does not touch, by this policy."""
    found, advice = _describe(observation, policy, command)
    seen = _SEEN.get(observation.state, "").format(
        unknown=", ".join(observation.unknown),
        revision=observation.mark.revision if observation.mark is not None else "",
    )
    return StateRefused(
        f"{found.rstrip()}{_space(found)}Nothing was changed. {advice}".rstrip(),
        state=observation.state,
        found=observation.unknown or observation.differences or observation.tables,
        advice=advice,
        seen=seen,
    )


def _space(text: str) -> str:
    return "\n" if text.endswith("\n") else " "


def _describe(observation: Observation, policy: Policy, command: Command) -> tuple[str, str]:
    match observation.state:
        case DatabaseState.INTERRUPTED if observation.mark is not None:
            return _interrupted(observation, observation.mark, command)
        case state if command is Command.RESOLVE:
            return f"The database is {state}, not interrupted: there is nothing to resolve.", ""
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
                    "release has: a later one may have migrated it, or one of another branch."
                ),
                (
                    "Deploy the release, or get the file, that has it; or, to serve on it as it "
                    f"is, set {by_setting('unrecognised', 'accept')}; or, if the row is wrong, "
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


def _interrupted(observation: Observation, mark: Mark, command: Command) -> tuple[str, str]:
    kept = "is committed" if mark.committed else "may be committed"
    found = f"The database is interrupted: {mark}, has not ended, and a part of it {kept}."
    if command is Command.RESOLVE:
        asked = ", ".join(observation.target) or "base"
        found = f"It is not {asked} that is interrupted. {found}"
    if mark.statement:
        found += f" {_how_far(mark)}"
    if observation.seen:
        found += f" Of what it makes and drops: {'; '.join(observation.seen)}."
        found += " Rows that it has written are not looked for."
    return found, ways_out(mark)


def _how_far(mark: Mark) -> str:
    first, last = mark.committed + 1, mark.statement
    one = first >= last
    which = f"Its statement {last}" if one else f"Its statements {first} to {last}"
    done = f", those before {'it' if one else 'them'} are" if mark.committed else ""
    return f"{which} may or may not be done{done}."


def ways_out(mark: Mark) -> str:
    """What to do about a revision that was interrupted."""
    done, undone = ("--applied", "--rolled-back")
    again = f"orchestrator upgrade {mark.revision}"
    if mark.down:
        again = "orchestrator downgrade …"
    return (
        "Finish it by hand, and then "
        f"`orchestrator resolve {done} {mark.revision}`; or undo it by hand, and then "
        f"`orchestrator resolve {undone} {mark.revision}`. If it can be repeated from its "
        f"beginning as it is: `{again} --set interrupted=retry`."
    )


def _count(tables: tuple[str, ...]) -> str:
    shown = ", ".join(tables[:_SHOWN_TABLES]) + (", …" if tables[_SHOWN_TABLES:] else "")
    return f"{len(tables)} table{'s' if len(tables) != 1 else ''} ({shown})"
