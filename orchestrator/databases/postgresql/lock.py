"""An advisory lock that says who holds it, and is freed soon after its holder's host has died.

A session that is blocked in `pg_advisory_lock()` deadlocks with `CREATE INDEX CONCURRENTLY` of
whoever holds it, so it is only tried. Keys are two integers, which never collide with the one
bigint of other tools (https://www.postgresql.org/docs/current/explicit-locking.html).
"""

from __future__ import annotations

from typing import Any, Final

from orchestrator.databases.postgresql import driver, errors
from orchestrator.databases.postgresql.holder import (
    HELD,
    HOLDER,
    LEADER,
    NAMESPACE,
    read_holder,
    session_name,
)
from orchestrator.databases.postgresql.pooler import pooling
from orchestrator.databases.server_lock import ServerLock
from orchestrator.databases.telling import told_holder
from orchestrator.errors import ConfigurationError, by_setting
from orchestrator.results import Holder

_LOOK: Final = "SELECT pg_is_in_recovery(), pg_backend_pid()"
_SETTINGS: Final = (
    "SELECT set_config('idle_session_timeout', '10s', false), "
    "set_config('statement_timeout', '10s', false), set_config('lock_timeout', '0', false)"
)


class PostgreSQLLock(ServerLock):
    """An advisory lock of a session.

    Behind a pooler that gives each transaction another session there is none: everybody is let
    through, with a word to `warn`, and the transactions' own fence keeps them apart.
    """

    def _connect(self) -> Any:
        name = session_name(self._holder())
        try:
            return driver.connect(self._database.url, application_name=name)
        except ConfigurationError:
            raise
        except Exception as error:
            raise errors.refused(error, self._database) from error

    def _prepare(self, connection: Any) -> None:
        is_replica, pid = driver.ask(connection, _LOOK)
        if is_replica:
            raise ConfigurationError(
                f"The server of {self._database.shown_url} is a read-only replica: nothing can be "
                "migrated there. Nothing was changed. Name the primary; or, where another process "
                'migrates it, follow: `mode = "follow"` (--mode follow).',
                setting="database_url",
                denied=True,
            )
        self.excludes = pooling(connection, pid, self._database.url) != "transaction"
        if self.excludes:
            driver.ask(connection, _SETTINGS)
            return
        self._warn(
            f"{self._database.shown_url} is reached through a pooler that gives each transaction "
            "another session of the server's. No lock can be held there, so each host's process "
            "tries, and the transactions keep them apart; autocommit_block() is refused. To have "
            f"one leader, name a way around the pooler: {by_setting('direct_url')}."
        )

    def _take(self, connection: Any) -> bool:
        (taken,) = driver.ask(connection, f"SELECT pg_try_advisory_lock({NAMESPACE}, {LEADER})")
        return bool(taken)

    def _free(self, connection: Any) -> None:
        driver.ask(connection, f"SELECT pg_advisory_unlock({NAMESPACE}, {LEADER})")

    def _tell(self, connection: Any, holder: Holder) -> None:
        driver.ask(connection, f"{told_holder(holder)} SELECT 1")

    def _seen(self, connection: Any) -> Holder | None:
        row = driver.ask(connection, HOLDER, *HELD)
        return None if row is None else read_holder(*row)

    def _version(self, connection: Any) -> str:
        (version,) = driver.ask(connection, "SELECT version()")
        return str(version)
