"""Whether the models say what the database is; and which differences have been accepted."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final, Literal, get_args

from orchestrator.databases.secrets import redacted
from orchestrator.decision.state import DatabaseState, Observation
from orchestrator.errors import ConfigurationError, StateRefused, by_setting
from orchestrator.results import Check, Difference, Revision
from orchestrator.run.inspection import View
from orchestrator.run.resources import Resources

Against = Literal["database", "migrations"]

_SHOWN_REVISIONS: Final = 5
_HEADER: Final = """\
# Differences between models and database that are accepted: a line each, as `orchestrator check`
# knows it. What begins with `#` is a comment.
"""


def require_known(against: str) -> None:
    """Raise `ConfigurationError` for what the models cannot be compared with."""
    allowed = get_args(Against)
    if against not in allowed:
        raise ConfigurationError(
            f"The models can be compared with `{'` or `'.join(allowed)}`, not with "
            f"{redacted(repr(against))}.",
            setting="against",
            allowed=allowed,
        )


def check(resources: Resources, against: Against, accepted: Path | None, *, accept: bool) -> Check:
    """The differences between the metadata and the database, which must be at its target.

    `against` says what the database stands for, and `accepted` is the file of accepted ones; to
    `accept` is to write those into it that it lacks.

    Raises `StateRefused` where the database is not at its target, and `ConfigurationError`.
    """
    known = _read(accepted, may_be_absent=accept)
    found = _differences(resources, f"the {against}")
    if accept:
        known = _accept(accepted, known, [one.identifier for one in found])
    identifiers = {one.identifier for one in found}
    return Check(
        against=against,
        database=resources.database.shown_url if against == "database" else None,
        differences=tuple(one for one in found if one.identifier not in known),
        accepted=tuple(one for one in found if one.identifier in known),
        outdated=tuple(line for line in known if line not in identifiers),
    )


def _differences(resources: Resources, there: str) -> tuple[Difference, ...]:
    scripts = resources.scripts()
    view = View(resources, scripts)
    observation = view.look(
        # An empty one is at the target of a project that has no revisions.
        compared=lambda seen: not (seen.missing or seen.unknown or seen.mark),
        there=there,
    )
    if view.differences is None:
        pending = () if observation.unknown else scripts.pending(view.target, observation.versions)
        raise _not_at_target(resources, observation, pending)
    return view.differences


def _not_at_target(
    resources: Resources, observation: Observation, pending: Sequence[Revision]
) -> StateRefused:
    migrate = f"Migrate it first, with `{resources.migrating}`"
    match observation.state:
        case DatabaseState.ABSENT:
            found, first = "does not exist", migrate
        case DatabaseState.EMPTY:
            found, first = "is empty", migrate
        case DatabaseState.UNVERSIONED:
            found = "has tables, but no version row"
            first = "Stamp the revision that it is at first, with `orchestrator stamp REVISION`"
        case DatabaseState.UNRECOGNISED:
            found = f"is at {', '.join(observation.unknown)}, which no script of this release has"
            first = "Check it with the release that has it"
        case DatabaseState.INTERRUPTED:
            found = f"is interrupted ({observation.mark})"
            first = "See to that first: `orchestrator status` says how"
        case _:
            named = ", ".join(one.revision for one in pending[:_SHOWN_REVISIONS])
            more = ", …" if pending[_SHOWN_REVISIONS:] else ""
            at = ", ".join(observation.versions) or "base"
            found, first = f"is at {at}, and has not had {named}{more} yet", migrate
    advice = (
        f"{first}; or compare the models with what the migrations make: "
        "`orchestrator check --against migrations`."
    )
    return StateRefused(
        f"The database {resources.database.shown_url} {found}: only one that is at its target can "
        f"be compared with the models. Nothing was changed. {advice}",
        state=observation.state,
        found=observation.unknown or observation.versions or observation.tables,
        advice=advice,
    )


def _read(file: Path | None, *, may_be_absent: bool) -> tuple[str, ...]:
    """The accepted differences: a line each, but for comments and what is empty."""
    if file is None or (may_be_absent and not os.path.exists(file)):
        return ()
    try:
        if os.path.exists(file) and not os.path.isfile(file):
            raise OSError(errno.EINVAL, "it is no regular file")
        return _lines_of(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"The file of accepted differences {file} does not exist. "
            "`orchestrator check --accept` makes it, of the differences that there are.",
            setting="accepted_differences",
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, "read", error) from error


def _lines_of(text: str) -> tuple[str, ...]:
    told = (" ".join(line.split()) for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in told if line and not line.startswith("#")))


def _accept(file: Path | None, known: tuple[str, ...], found: Sequence[str]) -> tuple[str, ...]:
    """Write into the file what it lacks; returns what it holds then."""
    if file is None:
        raise ConfigurationError(
            "There is no file to write the accepted differences to. Name one: "
            f"{by_setting('accepted_differences')}.",
            setting="accepted_differences",
        )
    try:
        with file.open("ab+", buffering=0) as opened:
            # Several may accept at once; and what is there stays, also where there is no more room.
            fcntl.flock(opened, fcntl.LOCK_EX)
            opened.seek(0)
            before = opened.read()
            known = _lines_of(before.decode())
            new = [one for one in dict.fromkeys(found) if one not in known]
            begun = b"\n" if before and not before.endswith(b"\n") else b""
            text = "".join(f"{one}\n" for one in new)
            _append(opened, begun + f"{'' if before else _HEADER}{text}".encode(), len(before))
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(file, "written", error) from error
    return (*known, *new)


def _append(opened: FileIO, text: bytes, size: int) -> None:
    """Add the text at the end, or nothing of it."""
    try:
        while text:
            text = text[opened.write(text) :]
    except OSError:
        with suppress(OSError):
            opened.truncate(size)
        raise


def _unusable(file: Path, what: str, error: OSError | UnicodeDecodeError) -> ConfigurationError:
    reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
    return ConfigurationError(
        f"The file of accepted differences {file} cannot be {what}: {reason}.",
        setting="accepted_differences",
    )
