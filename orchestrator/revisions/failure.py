"""A task that raised, in words: which revision, which file and line, and what to do."""

from __future__ import annotations

from textwrap import shorten
from typing import Final

from orchestrator.errors import OrchestratorError, TaskFailed, VerificationFailed
from orchestrator.results import Revision
from orchestrator.revisions.scripts import Scripts, where
from orchestrator.revisions.sqlite import TransactionEnded

_STATEMENT_LENGTH: Final = 200
_NOT_IN_A_TRANSACTION: Final = ("VACUUM", "PRAGMA", "ATTACH", "DETACH", "BEGIN", "COMMIT", "END")


def explain_task(
    error: BaseException,
    scripts: Scripts,
    *,
    task: str,
    revision: Revision | None,
    rolled_back: bool,
) -> OrchestratorError:
    """What a task raised, as a `TaskFailed`.

    As a `VerificationFailed` where the revision itself took its work back, and went on as if
    nothing had happened.
    """
    path = scripts.file_of(revision.revision) if revision else None
    file, line = where(error, path or scripts.directory.dir)
    if isinstance(error, TransactionEnded) or (path and file != path):
        file, line = path, None
    named = f" at revision {revision.revision} ({revision.description})" if revision else ""
    place = f"\n  {file}" + (f", line {line}" if line else "") if file else ""
    intact = (
        "The database is as it was before."
        if rolled_back
        else "What was done before this revision is kept."
    )
    what = f"The {task} failed{named}: {_told(error)}{place}\n{intact} {_advice(error)}"
    if isinstance(error, TransactionEnded) and error.by == "rollback":
        return VerificationFailed(what)
    return TaskFailed(
        what,
        task=task,
        revision=revision.revision if revision else None,
        file=file,
        line=line,
        rolled_back=rolled_back,
    )


def _told(error: BaseException) -> str:
    original = getattr(error, "orig", None)
    if isinstance(original, BaseException):  # SQLAlchemy's own text repeats it, and is long
        statement = str(getattr(error, "statement", "") or "")
        shown = f" [{shorten(statement, _STATEMENT_LENGTH)}]" if statement else ""
        return f"{type(original).__name__}: {original}{shown}"
    if isinstance(error, TransactionEnded):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _advice(error: BaseException) -> str:
    statement = str(getattr(error, "statement", "") or "").lstrip().upper()
    committed = isinstance(error, TransactionEnded) and error.by == "commit"
    if committed or statement.startswith(_NOT_IN_A_TRANSACTION):
        return (
            "Revisions run in one transaction here. One that must run outside of it needs "
            '`transaction = "off"`, which is Alembic\'s own way and leaves half of a revision '
            "behind when it is killed."
        )
    if isinstance(error, TransactionEnded):
        return "Let the revision raise instead of rolling back, or use a savepoint."
    return "Mend the revision and start again."
