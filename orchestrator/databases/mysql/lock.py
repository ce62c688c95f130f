"""`GET_LOCK`, by which one session of a server leads, and which is free when that has ended.

https://mariadb.com/kb/en/get_lock/, https://dev.mysql.com/doc/refman/8.4/en/locking-functions.html
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from orchestrator.databases.base import Database
from orchestrator.databases.mysql import driver, errors
from orchestrator.databases.mysql.locks import HOLDER, LEADER
from orchestrator.databases.server_lock import ServerLock
from orchestrator.databases.telling import read_told, told_holder
from orchestrator.errors import ConfigurationError, by_setting
from orchestrator.results import Holder

_LOOK: Final = "SELECT @@read_only, DATABASE(), connection_id()"
_SETTINGS: Final = "SET SESSION wait_timeout = 10, lock_wait_timeout = 1"
_GALERA: Final = "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'"
_SIGN_SECONDS: Final = 5


class MySQLLock(ServerLock):
    """A lock of a session, by name.

    What a session is called nobody is told here, and of what it does only the statement in hand.
    So a second connection, made when the lock is held for long enough to be waited for, executes
    a statement that does nothing, and whose comment says who holds the lock.
    """

    def __init__(
        self,
        database: Database,
        holder: Callable[[], Holder],
        warn: Callable[[str], object],
    ) -> None:
        super().__init__(database, holder, warn)
        self._number = 0
        self._sign: _Sign | None = None

    def release(self) -> None:
        """Let go of the lock, and of what tells of it."""
        sign, self._sign = self._sign, None
        if sign is not None:
            with self._one_at_a_time:
                sign.take_down(self._connection)
        super().release()

    def _connect(self) -> Any:
        try:
            return driver.connect(self._database.url)
        except ConfigurationError:
            raise
        except Exception as error:
            raise errors.refused(error, self._database) from error

    def _prepare(self, connection: Any) -> None:
        read_only, _, self._number = driver.ask(connection, _LOOK)
        shown = self._database.shown_url
        if str(read_only).upper() not in ("0", "OFF"):
            raise ConfigurationError(
                f"The server of {shown} is set to read_only, as replicas are: nothing can be "
                "migrated there. Nothing was changed. Name the primary; or, where another process "
                'migrates it, follow: `mode = "follow"` (--mode follow).',
                setting="database_url",
                denied=True,
            )
        galera = None if self._database.one_node else driver.ask(connection, _GALERA)
        if galera is not None and galera[1] == "ON":
            raise ConfigurationError(
                f"The server of {shown} is a node of a Galera cluster, whose nodes do not share "
                "locks: two of them would let two processes migrate at once. Nothing was changed. "
                "Where all processes that migrate reach the same node, by its own name or by a "
                "proxy that has one node for all that write, set "
                f"{by_setting('galera', 'one-node')}.",
                setting="galera",
            )
        driver.ask(connection, _SETTINGS)

    def _take(self, connection: Any) -> bool:
        (taken,) = driver.ask(connection, f"SELECT GET_LOCK({LEADER}, 0)")
        return bool(taken)

    def _free(self, connection: Any) -> None:
        driver.ask(connection, f"SELECT RELEASE_LOCK({LEADER})")

    def _tell(self, connection: Any, holder: Holder) -> None:
        driver.ask(connection, "SELECT 1")
        if self._held is None:
            return  # it has just been taken: nobody has waited for it yet
        if self._sign is None:
            self._sign = _Sign(self._connect, self._number)
        self._sign.text = told_holder(holder)

    def _seen(self, connection: Any) -> Holder | None:
        _, info = driver.ask(connection, HOLDER)
        return read_told(info) if info else None

    def _version(self, connection: Any) -> str:
        (version,) = driver.ask(connection, "SELECT version()")
        return str(version)

    def _descriptor(self, connection: Any) -> int:
        wire = getattr(connection, "_sock", None)  # PyMySQL has no other way to it
        descriptor: int = wire.fileno() if wire is not None else connection.fileno()
        return descriptor


class _Sign:
    """A session that does nothing, and says in what it executes who holds the lock."""

    def __init__(self, connect: Callable[[], Any], number: int) -> None:
        self.text = ""
        self._connect = connect
        self._holder = number
        self._own: int | None = None
        self._down = threading.Event()
        self._thread = threading.Thread(target=self._hold, name="orchestrator-sign", daemon=True)
        self._thread.start()

    def take_down(self, connection: Any) -> None:
        """End it; not by the end of its connection, which the server would notice later."""
        self._down.set()
        if self._own is not None and connection is not None:
            with suppress(Exception):
                driver.ask(connection, f"KILL CONNECTION {self._own}")

    def _hold(self) -> None:
        with suppress(Exception):  # nothing depends on it
            connection = self._connect()
            try:
                (self._own,) = driver.ask(connection, "SELECT connection_id()")
                while not self._down.wait(0.01):
                    does_nothing = f"/* of {self._holder} */ DO SLEEP({_SIGN_SECONDS})"
                    driver.ask(connection, f"{self.text} {does_nothing}")
            finally:
                connection.close()
