"""A task that raised, in words: which revision, which file and line, and what to do."""

from __future__ import annotations

import traceback
from textwrap import shorten
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from orchestrator.databases.base import Database
from orchestrator.databases.quoting import told
from orchestrator.databases.secrets import NO_SECRETS, Secrets
from orchestrator.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    OrchestratorError,
    TaskFailed,
    VerificationFailed,
    by_setting,
)
from orchestrator.results import Revision
from orchestrator.revisions.script_errors import bytecode_advice, import_advice, where
from orchestrator.revisions.scripts import Scripts
from orchestrator.revisions.transactions.base import RolledBack, TransactionError

KEPT: Final = "What was committed before that is kept: look at the database before the next start."
_OF_CODE: Final = (NameError, ImportError, SyntaxError)
"""Errors of a revision's code, whatever the database has."""
_STATEMENT_LENGTH: Final = 200
_UNVERSIONED: Final = (
    "The tables were there before, without a version row, and all revisions were run on them. If "
    "they are as revisions have made them, use `orchestrator stamp REVISION`; if the application "
    f"makes them from its models, set {by_setting('unversioned', 'adopt')}."
)
_ASYNCHRONOUS: Final = (
    "The driver of the URL is asynchronous, and env.py uses it as a synchronous one: name another "
    "driver in the URL, or make an env.py of the template `async` (`alembic init -t async`)."
)
BOOTSTRAP: Final = (
    "If the revisions presume tables that the application makes from its models, set "
    f"{by_setting('bootstrap', 'create')}: an empty database is then made from "
    "env.py's target_metadata and stamped as newest, and what only revisions make is skipped: "
    "seed rows, triggers, views."
)


def explain_task(
    error: BaseException,
    scripts: Scripts,
    secrets: Secrets,
    *,
    task: str,
    revision: Revision | None,
    rolled_back: bool,
    was_empty: bool,
    had_tables: bool,
    account: str | None = None,
    advice: str | None = None,
) -> OrchestratorError:
    """What a task raised, as a `TaskFailed`.

    The run began without a table (`was_empty`), or with tables that no version row tells of
    (`had_tables`). `account` is how far a revision has come that may be kept, `advice` is what the
    transaction says of the error, in place of the usual.

    As a `VerificationFailed` where the revision itself took its work back, and went on as if
    nothing had happened.
    """
    path = scripts.file_of(revision.revision) if revision else None
    file, line = where(error, path or scripts.directory.dir)
    if isinstance(error, RolledBack) or (path and file != path):
        file, line = path, None
    about = f" ({revision.description})" if revision and revision.description else ""
    named = f" at revision {revision.revision}{about}" if revision else ""
    place = f"\n  {file}" + (f", line {line}" if line else "") if file else ""
    intact = "The database is as it was before." if rolled_back else KEPT
    if account is not None and not rolled_back:
        intact = f"{intact} {secrets.quote(account) or ''}".rstrip()
    what = f"The {task} failed{named}: {_told(error, secrets)}{place}\n{intact} "
    what += advice or _advice(error)
    if (
        was_empty
        and advice is None
        and not isinstance(error, _OF_CODE)
        and (isinstance(error, SQLAlchemyError) or scripts.is_base(revision))
    ):
        what += f" {BOOTSTRAP}"
    if had_tables:
        what += f" {_UNVERSIONED}"
    if isinstance(error, RolledBack):
        return VerificationFailed(what)
    return TaskFailed(
        what,
        task=task,
        revision=revision.revision if revision else None,
        file=file,
        line=line,
        rolled_back=rolled_back,
    )


def explain_env_py(
    error: BaseException,
    scripts: Scripts,
    database: Database | None,
    *,
    began: bool,
    ended: bool,
) -> OrchestratorError:
    """What `env.py` itself raised: before a revision, between two, or when all had `ended`."""
    if isinstance(error, OrchestratorError):  # of `environment.run_migrations`
        return error
    shown = database.shown_url if database is not None else "its database"
    secrets = database.secrets if database is not None else NO_SECRETS
    text = _told(error, secrets)
    unavailable = database.explain(error) if database is not None else None
    if unavailable is not None and (unavailable.is_worth_waiting or unavailable.damaged):
        return unavailable
    # An error of a statement has the statement; one of connecting has none.
    if isinstance(error, DBAPIError) and error.statement is None and not began:
        return DatabaseUnavailable(f"env.py could not connect to {shown}: {text}.", url=shown)
    file, line = where(error, scripts.directory.dir)
    what = f"env.py failed: {text} ({file}, line {line})."
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else told(error, secrets)
        what = f"env.py ended the process with sys.exit({code!r}) ({file}, line {line})."
    if cached := bytecode_advice(error):
        what = f"env.py failed: {text}.{cached}"
    if ended:
        what += " The migration itself had ended before, and is kept."
    elif not began:
        advice = database.advice(error) if database is not None else None
        what += f" Nothing was changed.{_lacking(scripts)}{import_advice(error)}"
        what += f" {advice}" if advice else ""
        if "greenlet" in f"{type(error).__name__} {error}".lower():
            what += f" {_ASYNCHRONOUS}"
    # What the machine or the database says may be otherwise for the next one who asks.
    from_outside = isinstance(error, OSError) or unavailable is not None or _lost(error)
    return ConfigurationError(what, setting="script_location", scripts_failed=not from_outside)


def _lost(error: BaseException) -> bool:
    """Whether the database was not there, or not any more; one of a statement has a statement."""
    return isinstance(error, DBAPIError) and (
        error.statement is None or error.connection_invalidated
    )


def _lacking(scripts: Scripts) -> str:
    """What to do where `env.py` asked for attributes that nobody has given."""
    lacking = dict.fromkeys(getattr(scripts.config.attributes, "lacking", ()))
    if not lacking:
        return ""
    given = ", ".join(f"{key!r}: …" for key in lacking)
    return (
        f" It asks config.attributes for {', '.join(map(repr, lacking))}: in code, give that as "
        f"`Orchestrator(settings, attributes={{{given}}})`."
    )


def _told(error: BaseException, secrets: Secrets) -> str:
    if isinstance(error, TransactionError):
        return str(error)
    original = getattr(error, "orig", None)
    if not isinstance(original, BaseException):
        text = told(error, secrets)
        return f"{type(error).__name__}: {text}" if text else type(error).__name__
    # SQLAlchemy's own text repeats the original's, and is long. What is hidden is hidden before
    # the statement is cut: nobody would find half of a secret.
    statement = secrets.quote(str(getattr(error, "statement", "") or ""))
    shown = f" [{shorten(statement, _STATEMENT_LENGTH)}]" if statement else ""
    text = told(original, secrets)
    # psycopg says it itself; asyncpg keeps it to itself.
    detail = getattr(original.__cause__, "detail", None)
    if isinstance(detail, str) and "DETAIL" not in text:
        text += f"\nDETAIL:  {secrets.quote(detail)}"
    return f"{type(original).__name__}: {text}{shown}"


def _advice(error: BaseException) -> str:
    if isinstance(error, AssertionError) and _raised_by(error) == "autocommit_block":
        return (
            "An autocommit_block() needs Alembic's own transaction: in env.py, use "
            "`with context.begin_transaction()` instead of beginning one on the connection."
        )
    if isinstance(error, RolledBack):
        return "Let the revision raise instead of rolling back, or use a savepoint."
    known = bytecode_advice(error) or import_advice(error)
    return known.lstrip() or "Mend the revision and start again."


def _raised_by(error: BaseException) -> str | None:
    frames = traceback.extract_tb(error.__traceback__)
    return frames[-1].name if frames else None
