"""An advisory lock that says who holds it, and is freed soon after its holder's host has died.

Only tried, never waited for: a session that is blocked in `pg_advisory_lock()` deadlocks with
`CREATE INDEX CONCURRENTLY` of whoever holds it. Keys are two integers, which never collide with
the one bigint of other tools (https://www.postgresql.org/docs/current/explicit-locking.html).
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from orchestrator.databases.base import Database
from orchestrator.databases.postgresql import driver, errors
from orchestrator.databases.postgresql.holder import (
    HELD,
    HOLDER,
    LEADER,
    NAMESPACE,
    read_holder,
    session_name,
    told_holder,
)
from orchestrator.databases.postgresql.keeper import Keeper
from orchestrator.databases.postgresql.pooler import pooling
from orchestrator.errors import ConfigurationError, DatabaseUnavailable, by_setting
from orchestrator.locks.base import Lock
from orchestrator.results import Holder

_LOOK: Final = "SELECT pg_is_in_recovery(), pg_backend_pid()"
_SETTINGS: Final = (
    "SELECT set_config('idle_session_timeout', '10s', false), "
    "set_config('statement_timeout', '10s', false), set_config('lock_timeout', '0', false)"
)
_connected: weakref.WeakSet[PostgreSQLLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: whatever it does with its copy, the parent's connection stays as it is."""
    for lock in list(_connected):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class PostgreSQLLock(Lock):
    """The lock of whoever leads on a database, among all hosts.

    `holder` tells of this run, also what it is at; `warn` is told in words that the lock has been
    lost while it was held, or that none can be: behind a pooler that gives each transaction another
    session. Then everybody is let through, and the transactions' own fence keeps them apart. Its
    methods may be called in any thread.
    """

    name = "server"
    quick = False
    poll_seconds = (0.05, 0.2)

    def __init__(
        self,
        database: Database,
        holder: Callable[[], Holder],
        warn: Callable[[str], object],
    ) -> None:
        self._database = database
        self._holder = holder
        self._warn = warn
        self._one_at_a_time = threading.RLock()
        self._connection: Any = None
        self._held: Keeper | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Also where the server has gone for a while: then it is not.

        Raises `ConfigurationError` for a replica, which excludes nobody, and for a server whose
        locks exclude nobody; `DatabaseUnavailable` where waiting would not help.
        """
        with self._one_at_a_time:
            try:
                taken = self._try()
            except DatabaseUnavailable as error:
                self._close()
                if not error.unreachable:
                    raise
                self.trouble = error.reason
                return False
            except ConfigurationError:
                self._close()
                raise
        self.trouble = None
        return taken

    def release(self) -> None:
        """Let go of the lock, and of its connection."""
        held, self._held = self._held, None
        if held is not None:
            held.stop()
        with self._one_at_a_time:
            if held is not None:
                # Not left to the end of the connection, which the server notices a moment later.
                with suppress(Exception):
                    driver.ask(
                        self._connection, f"SELECT pg_advisory_unlock({NAMESPACE}, {LEADER})"
                    )
            self._close()

    def seen_holder(self) -> Holder | None:
        """Who holds it, or works without it, as the server tells."""
        with self._one_at_a_time:
            if self._connection is None:
                return None
            try:
                row = driver.ask(self._connection, HOLDER, *HELD)
            except Exception as error:  # noqa: BLE001 - a driver's; the next try tells
                del error
                return None
        return None if row is None else read_holder(*row)

    def forget(self) -> None:
        """Let the connection alone, as it is another process's."""
        with suppress(Exception):
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self._connection.fileno())
            os.close(nothing)
        self._one_at_a_time = threading.RLock()
        self._held = None

    def ping(self) -> None:
        """Keep the session alive, and tell who holds the lock. Raises the driver's error."""
        with self._one_at_a_time:
            if self._connection is not None:
                driver.ask(self._connection, f"{told_holder(self._holder())} SELECT 1")

    def is_silent(self, seconds: float) -> bool:
        """Whether the server says nothing for so long; what it says unasked is a farewell."""
        connection = self._connection
        if connection is None:
            return True
        readable, _, _ = select.select([connection.fileno()], [], [], seconds)
        return not readable

    def _try(self) -> bool:
        try:
            if self._connection is None:
                self._open()
            if not self.excludes:
                return True
            (taken,) = driver.ask(
                self._connection, f"SELECT pg_try_advisory_lock({NAMESPACE}, {LEADER})"
            )
            if taken:
                self._see_that_it_excludes()
                self.ping()
        except (ConfigurationError, DatabaseUnavailable):
            raise
        except Exception as error:
            unavailable = self._database.explain(error)
            if unavailable is None:
                raise
            raise unavailable from error
        if taken:
            self._held = Keeper(self.ping, self.is_silent, self._warn)
        return bool(taken)

    def _open(self) -> None:
        self._connection = self._connect()
        _connected.add(self)
        is_replica, pid = driver.ask(self._connection, _LOOK)
        if is_replica:
            raise ConfigurationError(
                f"The server of {self._database.shown_url} is a read-only replica: nothing can be "
                "migrated there. Nothing was changed. Name the primary; or, where another process "
                'migrates it, follow: `mode = "follow"` (--mode follow).',
                setting="database_url",
                denied=True,
            )
        self.excludes = pooling(self._connection, pid, self._database.url) != "transaction"
        if self.excludes:
            driver.ask(self._connection, _SETTINGS)
            return
        self._warn(
            f"{self._database.shown_url} is reached through a pooler that gives each transaction "
            "another session of the server's. No lock can be held there, so each host's process "
            "tries, and the transactions keep them apart; autocommit_block() is refused. To have "
            f"one leader, name a way around the pooler: {by_setting('direct_url')}."
        )

    def _connect(self) -> Any:
        name = session_name(self._holder())
        try:
            return driver.connect(self._database.url, application_name=name)
        except ConfigurationError:
            raise
        except Exception as error:
            raise errors.refused(error, self._database) from error

    def _see_that_it_excludes(self) -> None:
        """Some servers that speak the protocol grant every lock to everybody."""
        other = self._connect()
        try:
            (taken,) = driver.ask(other, f"SELECT pg_try_advisory_lock({NAMESPACE}, {LEADER})")
            if taken:
                driver.ask(other, f"SELECT pg_advisory_unlock({NAMESPACE}, {LEADER})")
                driver.ask(self._connection, "SELECT 1")  # raises where it was freed by being lost
                (version,) = driver.ask(other, "SELECT version()")
                raise ConfigurationError(
                    f"The server of {self._database.shown_url} grants one advisory lock to two "
                    f"sessions at once, so it keeps nobody out: {version}. Nothing was changed. "
                    "The orchestrator needs a PostgreSQL server whose locks exclude, and a way to "
                    "it on which a session stays one.",
                    setting="database_url",
                )
        finally:
            other.close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        _connected.discard(self)
        if connection is not None:
            with suppress(Exception):
                connection.close()
