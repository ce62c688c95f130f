"""Whether a new revision may be made of what differs between the models and a database. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import StateRefused, by_setting

_REPEATS: Final = "a new revision would do that work again."
_BEHIND: Final = "First `{upgrade}`, then again."
_FOUND: Final = {
    DatabaseState.ABSENT: f"The database does not exist yet, and lacks {{missing}}: {_REPEATS}",
    DatabaseState.EMPTY: f"The database is empty and lacks {{missing}}: {_REPEATS}",
    DatabaseState.BEHIND: f"The database is at {{versions}} and lacks {{missing}}: {_REPEATS}",
    DatabaseState.UNVERSIONED: (
        "The database has tables but no version row, so it cannot be told what of the revisions "
        f"up to {{missing}} it has: {_REPEATS}"
    ),
    DatabaseState.UNRECOGNISED: "The database is at {unknown}, which no revision file has.",
    DatabaseState.INTERRUPTED: "The database is interrupted: {mark}, has not ended.",
}
_ADVICE: Final = {
    DatabaseState.INTERRUPTED: "See to that first: `orchestrator status` says how.",
    DatabaseState.UNVERSIONED: (
        "If the tables are as those revisions make them, use `orchestrator stamp heads`; if the "
        f"application makes them from its models, set {by_setting('unversioned', 'adopt')} and use "
        "`{run}`."
    ),
    DatabaseState.UNRECOGNISED: (
        "Get the file back, as from another branch of the repository, and `orchestrator "
        "downgrade` with it; or, if the row is wrong, `orchestrator stamp --purge REVISION`."
    ),
}


def refuse_unknown(observation: Observation) -> None:
    """Raise `StateRefused` where the database is at a revision that no script has."""
    if observation.state is DatabaseState.UNRECOGNISED:
        raise _refusal(observation, "Nothing was changed.", {})


def require_heads(
    observation: Observation, *, upgrade: str = "orchestrator run", run: str = "orchestrator run"
) -> None:
    """Raise `StateRefused` unless the database is at the heads, which the revision follows.

    `observation.target` are the heads. Where there is none yet, an absent or empty database is
    at them. `upgrade` is the command that leads there, `run` the one that migrates.
    """
    refused = (DatabaseState.UNRECOGNISED, DatabaseState.INTERRUPTED)
    if observation.state not in refused and not observation.missing:
        return
    raise _refusal(observation, "No revision was written.", {"upgrade": upgrade, "run": run})


def _refusal(observation: Observation, intact: str, commands: Mapping[str, str]) -> StateRefused:
    found, advice = _FOUND[observation.state], _ADVICE.get(observation.state, _BEHIND)
    names = {
        "versions": ", ".join(observation.versions),
        "unknown": ", ".join(observation.unknown),
        "missing": ", ".join(observation.missing),
        "mark": str(observation.mark),
        **commands,
    }
    return StateRefused(
        f"{found} {intact} {advice}".format_map(names),
        state=observation.state,
        found=observation.unknown or observation.missing,
        advice=advice.format_map(names),
    )
