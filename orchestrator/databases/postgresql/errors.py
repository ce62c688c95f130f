"""What PostgreSQL's errors mean, in words: by SQLSTATE, and where there is none by asking again.

https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.engine import URL

from orchestrator.databases.base import Database
from orchestrator.databases.postgresql import driver
from orchestrator.databases.quoting import told
from orchestrator.errors import DatabaseUnavailable

NO_TABLE: Final = ("42P01", "3F000")
"""There is no such table, or no such schema."""

NO_RIGHT: Final = "42501"
DUPLICATE: Final = "42P04"
UNPREPARED: Final = ("42P05", "26000")
"""A prepared statement is there already, or is not."""
NO_TRANSACTION: Final = "25P01"
READ_ONLY: Final = "25006"
_TAKEN_BACK: Final = ("57014", "55P03")
_TOO_MANY: Final = "53300"
_GOING: Final = ("57P01", "57P02", "57P03", "57P05", "25P03")
"""The server, or its connection, is being shut down, as idle, too; or it starts up."""

_SILENT: Final = "the server does not answer"
_REFUSES: Final = "nobody listens at the server's port"
_UNKNOWN: Final = "the server's name is not known"
_STARTING: Final = "the server is starting up or shutting down"
_FULL: Final = "the server has no connection left"
_LOST: Final = "the connection to the server was lost"

# libpq gives no SQLSTATE where a connection fails, so its own words have to do.
_IS_FULL: Final = re.compile(
    r"too many (clients|connections)|remaining connection slots", re.IGNORECASE
)
_IS_REFUSED: Final = re.compile(r"connection refused", re.IGNORECASE)
_IS_UNKNOWN: Final = re.compile(
    r"could not translate host name|name or service not known", re.IGNORECASE
)
_IS_SILENT: Final = re.compile(
    r"timeout expired|no route to host"
    r"|network is unreachable|no such file or directory|closed the connection unexpectedly",
    re.IGNORECASE,
)
_IS_STARTING: Final = re.compile(r"the database system is ", re.IGNORECASE)
_REASONS: Final = (
    (_IS_FULL, _FULL),
    (_IS_STARTING, _STARTING),
    (_IS_REFUSED, _REFUSES),
    (_IS_UNKNOWN, _UNKNOWN),
    (_IS_SILENT, _SILENT),
)
_GUESSES: Final = (
    "Is the server running",
    "This probably means the server terminated abnormally",
    "before or while processing the request",
)
_ADVICE: Final = (
    (
        re.compile(r"password|pg_hba|authentication", re.IGNORECASE),
        "See to user and password in the URL, or in what libpq reads (.pgpass, PGPASSWORD).",
    ),
    (
        re.compile(r'database ".*" does not exist', re.IGNORECASE),
        "The server has no such database: make it by `CREATE DATABASE`, and start again.",
    ),
    (
        re.compile(r"role .* does not exist", re.IGNORECASE),
        "The server is there, and knows no such user.",
    ),
    (
        re.compile(r"permission denied for database|CONNECT privilege", re.IGNORECASE),
        "Let an administrator `GRANT CONNECT ON DATABASE …` to this user.",
    ),
    (
        re.compile(r"ssl|certificate", re.IGNORECASE),
        "See to `sslmode`, `sslrootcert` and the other SSL parameters of the URL.",
    ),
)


_SEE_TO_HOST: Final = "If the server is up, see to host and port in the URL."


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE of an error, whatever its driver; None where it has none."""
    original: Any = getattr(error, "orig", None) or error
    return getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)


def refused(error: BaseException, database: Database) -> DatabaseUnavailable:
    """Why connecting failed; `unreachable` where waiting may help."""
    text = _one_line(told(getattr(error, "orig", None) or error, database.secrets))
    reason = _reason(str(getattr(error, "orig", None) or error), database.url)
    if reason is None:
        advice = next((say for told_by, say in _ADVICE if told_by.search(text)), "")
    else:
        advice = _SEE_TO_HOST if reason in (_REFUSES, _UNKNOWN, _SILENT) else ""
    return DatabaseUnavailable(
        f"The database {database.shown_url} cannot be connected to: {text.rstrip('.')}."
        f"{' ' if advice else ''}{advice}",
        url=database.shown_url,
        unreachable=reason is not None,
        # By those who came first: who asks again and again takes the place of one who works.
        busy=reason == _FULL,
        reason=reason,
    )


def explain(error: BaseException, database: Database) -> DatabaseUnavailable | None:
    """Why the server could not be used any more; None for any other kind of error."""
    code = sqlstate(error)
    if code in _GOING or (code or "").startswith("08") or (code is None and _is_lost(error)):
        reason = _STARTING if code == "57P03" else _LOST
    elif code == _TOO_MANY:
        reason = _FULL
    elif code == READ_ONLY:
        return DatabaseUnavailable(
            f"The database {database.shown_url} can only be read: its server is a replica, or "
            "`default_transaction_read_only` is set. Name the primary, or take that back for the "
            "user or the database.",
            url=database.shown_url,
        )
    else:
        return None
    text = _one_line(told(getattr(error, "orig", None) or error, database.secrets))
    return DatabaseUnavailable(
        f"The database {database.shown_url} could not be used any more, as {reason}: "
        f"{text.rstrip('.')}.",
        url=database.shown_url,
        unreachable=True,
        busy=reason == _FULL,
        reason=reason,
    )


def kept_waiting(error: BaseException, database: Database) -> DatabaseUnavailable | None:
    """Why a small question of our own was not answered in time; None for any other error."""
    if sqlstate(error) not in _TAKEN_BACK:
        return None
    text = _one_line(told(getattr(error, "orig", None) or error, database.secrets))
    return DatabaseUnavailable(
        f"The database {database.shown_url} did not answer in time: {text.rstrip('.')}. Somebody "
        "may have locked the version table, as a migration does that changes it.",
        url=database.shown_url,
        busy=True,
        reason="it does not answer in time; somebody may have locked the version table",
    )


def _one_line(text: str) -> str:
    """What libpq says, without its guesses and without saying twice that it failed."""
    lines = (line.strip() for line in text.splitlines())
    told = " ".join(line for line in lines if line and not line.startswith(_GUESSES))
    return " ".join(told.removeprefix("connection failed: ").split())


def _is_lost(error: BaseException) -> bool:
    """Whether the connection has ended, where the server could not say so."""
    if getattr(error, "connection_invalidated", False):
        return True
    original: Any = getattr(error, "orig", None) or error
    if isinstance(original, (OSError, EOFError)):  # as asyncpg leaves them
        return _came_through(original, "asyncpg")
    module = type(original).__module__.partition(".")[0]
    if module not in ("psycopg", "psycopg2"):
        return False
    return type(original).__name__ in ("OperationalError", "AdminShutdown", "InterfaceError")


def _came_through(error: BaseException, package: str) -> bool:
    """Whether an error was raised in a package, or in what it called."""
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__", "").partition(".")[0] == package:
            return True
        traceback = traceback.tb_next
    return False


def _reason(text: str, url: URL) -> str | None:
    """What is waited for; None where waiting would not help."""
    # Its words first: when it is asked again, it may be there already.
    for words, reason in _REASONS:
        if words.search(text):
            return reason
    if driver.driver() != "psycopg":
        return None
    from psycopg import pq
    from psycopg.conninfo import make_conninfo

    own = driver.own_url(url)
    _, named = own.get_dialect()().create_connect_args(own)
    known = {name: value for name, value in named.items() if name != "context"}

    def ping(**more: str) -> Any:
        info = make_conninfo("", **{"connect_timeout": "3", **known, **more})
        return pq.PGconn.ping(info.encode())

    try:
        answer = ping()
        if answer == pq.Ping.NO_RESPONSE and ping(sslmode="prefer") != pq.Ping.NO_RESPONSE:
            return None  # it answers, and not to what the URL demands of it
    except Exception:  # noqa: BLE001 - a parameter that libpq does not know: it said so
        return None
    return {pq.Ping.NO_RESPONSE: _SILENT, pq.Ping.REJECT: _STARTING}.get(answer)
