"""Whether there is a pooler on the way to a server, and whether a session stays one on it.

A pooler that gives each transaction another session of the server's (PgBouncer's transaction mode)
makes nothing of a session's lock: somebody else gets it at the next statement.
"""

from __future__ import annotations

from typing import Any, Final, Literal

from sqlalchemy.engine import URL

from orchestrator.databases.postgresql import driver

Pooling = Literal["none", "session", "transaction"]

_ROUNDS: Final = 20
_PID: Final = "SELECT pg_backend_pid()"


def told_pid(connection: Any) -> int | None:
    """The server's process as it was named at the connect; of a driver's connection.

    None where the driver does not tell it.
    """
    for names in (("info", "backend_pid"), ("get_server_pid",)):
        found = connection
        for name in names:
            found = getattr(found, name, None)
        if found is not None:
            return int(found() if callable(found) else found)
    return None


def pooling(connection: Any, pid: int, url: URL) -> Pooling:
    """What is between this connection of our driver's, which was just served by `pid`, and it.

    Raises the driver's errors.
    """
    if told_pid(connection) in (pid, None):
        return "none"
    other = driver.connect(url)
    try:
        for _ in range(_ROUNDS):
            # What was just let go of is what the next one gets.
            (alone,) = driver.ask(connection, _PID)
            driver.tell(other, "BEGIN")
            (others,) = driver.ask(other, _PID)
            (beside,) = driver.ask(connection, _PID)
            driver.tell(other, "COMMIT")
            if len({pid, alone, beside}) > 1 or others == alone:
                return "transaction"
    finally:
        other.close()
    return "session"


def pooling_of(url: URL) -> Pooling:
    """The same of a URL. Raises the driver's errors."""
    connection = driver.connect(url)
    try:
        (pid,) = driver.ask(connection, _PID)
        return pooling(connection, pid, url)
    finally:
        connection.close()
