"""What the errors of MariaDB and MySQL mean, in words, by their numbers.

https://mariadb.com/kb/en/mariadb-error-codes/,
https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html
"""

from __future__ import annotations

import re
from typing import Any, Final

from orchestrator.databases.base import Database
from orchestrator.databases.quoting import told
from orchestrator.errors import DatabaseUnavailable

NO_TABLE: Final = (1146, 1049)
"""There is no such table, or no such schema."""
NO_RIGHT: Final = (1142, 1143, 1044, 1227, 1370)
EXISTS: Final = 1007
NO_SYNTAX: Final = 1064
LOCK_WAIT: Final = 1205
DEADLOCK: Final = 1213
CHANGED: Final = 1412
"""A table was changed since the transaction began."""
KILLED: Final = 1317
_READ_ONLY: Final = (1290, 1792, 1836, 3989)
_FULL: Final = (1040, 1203, 1226)
_SILENT: Final = (2002, 2003, 2005)
_GOING: Final = (1053, 1077, 1079, 1080, 1927, 2006, 2013, 2055, 4031)

_ANSWERS_NOT: Final = "the server does not answer"
_HAS_NONE_LEFT: Final = "the server has no connection left"
_LOST: Final = "the connection to the server was lost"
_ADVICE: Final = (
    ((1045, 1698, 2059, 2061), "See to user and password in the URL."),
    (
        (1049,),
        "The server has no such database: make it by `CREATE DATABASE`, and start again.",
    ),
    ((1044,), "Let an administrator `GRANT ALL ON` this database to the user."),
    ((2026,), "See to the SSL parameters of the URL: `ssl_ca`, `ssl_verify_cert` and the like."),
    ((1130,), "Let an administrator make the user for this host, or for `%`."),
)
_NUMBERED: Final = re.compile(r"^\(?\s*(\d{4})\b[ ,:(]")


def number(error: BaseException) -> int | None:
    """The number of an error, whatever its driver; None where it has none."""
    original: Any = getattr(error, "orig", None) or error
    for found in (getattr(original, "errno", None), *original.args[:1]):
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    known = _NUMBERED.match(str(original))
    return int(known[1]) if known else None


def refused(error: BaseException, database: Database) -> DatabaseUnavailable:
    """Why connecting failed; `unreachable` where waiting may help."""
    code = number(error)
    text = _one_line(error, database)
    reason = _reason(code)
    advice = next((say for codes, say in _ADVICE if code in codes), "") if reason is None else ""
    return DatabaseUnavailable(
        f"The database {database.shown_url} cannot be connected to: {text.rstrip('.')}."
        f"{' ' if advice else ''}{advice}",
        url=database.shown_url,
        unreachable=reason is not None,
        busy=reason == _HAS_NONE_LEFT,
        reason=reason,
    )


def explain(error: BaseException, database: Database) -> DatabaseUnavailable | None:
    """Why the server could not be used any more; None for any other kind of error."""
    code = number(error)
    if code in _READ_ONLY:
        return DatabaseUnavailable(
            f"The database {database.shown_url} can only be read: its server is a replica, or is "
            "set to read_only. Name the primary.",
            url=database.shown_url,
        )
    reason = _reason(code)
    if reason is None and _is_lost(error, code):
        reason = _LOST
    if reason is None:
        return None
    return DatabaseUnavailable(
        f"The database {database.shown_url} could not be used any more, as {reason}: "
        f"{_one_line(error, database).rstrip('.')}.",
        url=database.shown_url,
        unreachable=True,
        busy=reason == _HAS_NONE_LEFT,
        reason=reason,
    )


def _reason(code: int | None) -> str | None:
    if code in _SILENT:
        return _ANSWERS_NOT
    if code in _FULL:
        return _HAS_NONE_LEFT
    return _LOST if code in _GOING else None


def _is_lost(error: BaseException, code: int | None) -> bool:
    """Whether the connection has ended, where its driver has no number for that."""
    if getattr(error, "connection_invalidated", False):
        return True
    original: Any = getattr(error, "orig", None) or error
    module = type(original).__module__.partition(".")[0]
    if module not in ("pymysql", "asyncmy", "MySQLdb", "mariadb", "aiomysql"):
        return False
    return code in (0, None) and type(original).__name__ == "InterfaceError"


def _one_line(error: BaseException, database: Database) -> str:
    """What the driver says, without the brackets of a tuple."""
    original: Any = getattr(error, "orig", None) or error
    text = told(original, database.secrets)
    known = re.fullmatch(r"\((\d+), (['\"])(.*)\2\)", text, re.DOTALL)
    return " ".join(f"{known[3]} ({known[1]})".split() if known else text.split())
