"""What is wrong with the scripts, in words that name the file."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final

from alembic.script import Script, ScriptDirectory
from alembic.script.revision import MultipleHeads, ResolutionError, RevisionError
from alembic.util import CommandError

from orchestrator.databases.quoting import told
from orchestrator.databases.secrets import NO_SECRETS, Secrets, redacted
from orchestrator.errors import ConfigurationError, OrchestratorError

_PACKAGE: Final = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
"""This library's own files, which are never the script that is wrong."""


@contextmanager
def explained(
    setting: str = "script_location",
    *,
    secrets: Secrets = NO_SECRETS,
    scripts_failed: bool = False,
) -> Iterator[None]:
    """Turn whatever is wrong with the scripts into a `ConfigurationError` that names the file.

    `scripts_failed`: they are executed in the block, and what is wrong comes of that. It is
    quoted without these secrets.
    """
    try:
        yield
    except (OrchestratorError, KeyboardInterrupt):
        raise
    except (CommandError, RevisionError) as error:
        text = told(error, secrets).rstrip(".")
        if isinstance(error.__cause__, ResolutionError):
            text = f"{text}; `orchestrator history` lists the revisions"
        elif isinstance(error.__cause__, MultipleHeads):
            text = (
                f"The scripts have several heads: {', '.join(error.__cause__.heads)}. Name one "
                "(`--head REV` for a new revision), or `heads` for all; `orchestrator merge heads` "
                "joins them"
            )
        raise ConfigurationError(
            f"{text}.", setting=setting, scripts_failed=scripts_failed
        ) from error
    except (Exception, SystemExit) as error:
        file, line = where(error)
        in_hand = file_in_hand(error)
        # A file that Alembic itself stumbles over has no line: it lacks `down_revision`, say.
        place = in_hand if in_hand and file != in_hand else f"{file}, line {line}"
        cached = bytecode_advice(error)
        if isinstance(error, (SyntaxError, ImportError)) and not (cached and in_hand):
            place = f"{file}, line {line}"
        reason = told(error, secrets) or "Alembic has no words for it"
        advice = cached or import_advice(error)
        raise ConfigurationError(
            f"The script {place} cannot be imported: {type(error).__name__}: {reason}.{advice}",
            setting=setting,
            scripts_failed=scripts_failed and not isinstance(error, OSError),
        ) from error


@contextmanager
def walk_explained(target: str, versions: Iterable[str], heads: Iterable[str]) -> Iterator[None]:
    """Say what is wrong with a target, from these versions, in more words than Alembic has.

    Raises `ConfigurationError`.
    """
    shown = redacted(repr(target))
    try:
        with explained(setting="target"):
            yield
    except ConfigurationError as error:
        cause = error.__cause__
        if isinstance(cause, ResolutionError) or isinstance(
            cause and cause.__cause__, ResolutionError
        ):
            raise ConfigurationError(
                f"The scripts have no revision or label {shown}. Nothing was changed. "
                f"The newest are: {', '.join(heads) or 'none'}.",
                setting="target",
            ) from error
        if isinstance(cause, (CommandError, RevisionError)):
            raise ConfigurationError(
                f"{shown} leads to no single revision from {', '.join(versions) or 'base'}. "
                f"Nothing was changed. Alembic says: {str(error).rstrip('.')}. Name the revision "
                "itself: `orchestrator history` lists them.",
                setting="target",
            ) from error
        raise


def beyond_the_end(target: str, heads: Iterable[str]) -> ConfigurationError:
    """What to say of a relative target that is further than the history goes."""
    return ConfigurationError(
        f"There is no revision {redacted(repr(target))}: that is beyond the end of the history. "
        f"Nothing was changed. The newest are: {', '.join(heads)}.",
        setting="target",
    )


def file_in_hand(error: BaseException) -> str | None:
    """The revision file that was made a script of, or looked at; its error may not name it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in frames:
        if frame.f_code.co_name == "_from_path":  # in Alembic 1.20; the other in older ones
            return str(frame.f_locals.get("path"))
        if frame.f_code.co_name == "_from_filename":
            return str(os.path.join(frame.f_locals["dir_"], frame.f_locals["filename"]))
    # None was being made: it is one of those that had been.
    for frame in frames:
        script = frame.f_locals.get("script")
        if isinstance(script, Script):
            return script.path
        scripts = getattr(frame.f_locals.get("self"), "directory", None)
        if isinstance(error, AssertionError) and isinstance(scripts, ScriptDirectory):
            # By this id Alembic means that there is no revision.
            based = scripts.revision_map._revision_map.get("base")
            if isinstance(based, Script):
                return based.path
    return None


def bytecode_advice(error: BaseException) -> str:
    """What to do about a damaged `.pyc` file, which Python takes for good; empty where none is.

    Of an `import` statement's `ImportError` Python hides the frames, but not the file.
    """
    files = [
        frame.f_locals.get("bytecode_path")
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_name == "_compile_bytecode"  # of importlib, in Python 3.11
    ]
    if isinstance(error, ImportError):
        files.append(error.path)
    for file in files:
        directory = os.path.dirname(file or "")
        if os.path.basename(directory) == "__pycache__":
            return f" The cached bytecode {file} is damaged: delete the directory {directory}."
    return ""


def import_advice(error: BaseException) -> str:
    """What to do about an import that fails or is not there; empty where that is not known."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        first = error.name.partition(".")[0]
        if os.path.exists(first) or os.path.exists(f"{first}.py"):
            return (
                f" There is a `{first}` in {os.getcwd()}, where Python does not look: let the "
                "Alembic config say `prepend_sys_path = .`, or set PYTHONPATH=."
            )
    if isinstance(error, NameError) and error.name and find_spec(error.name) is not None:
        return (
            f" It lacks `import {error.name}`: add that to the file, and for the next revisions to "
            "script.py.mako."
        )
    return ""


def where(error: BaseException, within: str = "") -> tuple[str | None, int | None]:
    """The file and line at which an error arose, the innermost below a directory if given."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno
    every = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in every if not frame.filename.startswith(_PACKAGE)]
    inside = [frame for frame in frames if within and frame.filename.startswith(within)]
    # Without a directory: the innermost frame that is a script, not a library's.
    outside = [
        frame
        for frame in frames
        if "site-packages" not in frame.filename
        and not frame.filename.startswith(("<", os.path.dirname(os.__file__)))
    ]
    for frame in reversed(inside or outside or frames):
        return frame.filename, frame.lineno
    return None, None
