"""A lock that a server holds for a session: what is the same whatever the server.

Only tried, never waited for, on a connection of its own in autocommit.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from orchestrator.databases.base import Database
from orchestrator.databases.keeper import Keeper
from orchestrator.errors import ConfigurationError, DatabaseUnavailable
from orchestrator.locks.base import Lock
from orchestrator.results import Holder

_connected: weakref.WeakSet[ServerLock] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """In a forked child: whatever it does with its copy, the parent's connection stays as it is."""
    for lock in list(_connected):
        lock.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class ServerLock(Lock):
    """The lock of whoever leads on a database, among all hosts.

    `holder` tells of this run, also what it is at; `warn` is told in words that the lock has been
    lost while it was held, or that none can be. Its methods may be called in any thread.
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

        Raises `ConfigurationError` for a server that excludes nobody, or where nothing may be
        changed; `DatabaseUnavailable` where waiting would not help.
        """
        with self._one_at_a_time:
            try:
                taken = self._try()
            except DatabaseUnavailable as error:
                self._close()
                if not error.is_worth_waiting:
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
                    self._free(self._connection)
            self._close()

    def seen_holder(self) -> Holder | None:
        """Who holds it, or works without it, as the server tells."""
        with self._one_at_a_time:
            if self._connection is None:
                return None
            try:
                return self._seen(self._connection)
            except Exception as error:  # noqa: BLE001 - a driver's; the next try tells
                del error
                return None

    def forget(self) -> None:
        """Let the connection alone, as it is another process's."""
        with suppress(Exception):
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self._descriptor(self._connection))
            os.close(nothing)
        self._one_at_a_time = threading.RLock()
        self._held = None

    def ping(self) -> None:
        """Keep the session alive, and tell who holds the lock. Raises the driver's error."""
        with self._one_at_a_time:
            if self._connection is not None:
                self._tell(self._connection, self._holder())

    def is_silent(self, seconds: float) -> bool:
        """Whether the server says nothing for so long; what it says unasked is a farewell."""
        connection = self._connection
        if connection is None:
            return True
        readable, _, _ = select.select([self._descriptor(connection)], [], [], seconds)
        return not readable

    @abstractmethod
    def _connect(self) -> Any:
        """A connection of the driver's, in autocommit. Raises `DatabaseUnavailable`."""

    @abstractmethod
    def _prepare(self, connection: Any) -> None:
        """See what kind of a server it is, and set what the session needs.

        Raises `ConfigurationError` where nothing can be migrated there, or nobody kept out; sets
        `excludes`.
        """

    @abstractmethod
    def _take(self, connection: Any) -> bool:
        """Take the lock, if it is free."""

    @abstractmethod
    def _free(self, connection: Any) -> None:
        """Give it back."""

    @abstractmethod
    def _tell(self, connection: Any, holder: Holder) -> None:
        """Send something that tells, to whoever may see the session, who holds the lock."""

    @abstractmethod
    def _seen(self, connection: Any) -> Holder | None:
        """Who holds it, as the server tells."""

    @abstractmethod
    def _version(self, connection: Any) -> str:
        """What the server calls itself."""

    def _descriptor(self, connection: Any) -> int:
        descriptor: int = connection.fileno()
        return descriptor

    def _try(self) -> bool:
        try:
            if self._connection is None:
                self._connection = self._connect()
                _connected.add(self)
                self._prepare(self._connection)
            if not self.excludes:
                return True
            taken = self._take(self._connection)
            if taken:
                self._see_that_it_excludes()
                self.ping()
        except (ConfigurationError, DatabaseUnavailable):
            raise
        except Exception as error:
            unavailable = self._database.explain_own(error)
            if unavailable is None:
                raise
            raise unavailable from error
        if taken:
            self._held = Keeper(self.ping, self.is_silent, self._warn)
        return taken

    def _see_that_it_excludes(self) -> None:
        """Some servers that speak the protocol grant every lock to everybody."""
        try:
            other = self._connect()
        except DatabaseUnavailable as error:
            if error.unreachable:
                error.reason = f"{error.reason}, and a run needs a second one"
            raise
        try:
            if self._take(other):
                self._free(other)
                self.ping()  # raises where it was free because it had been lost
                raise ConfigurationError(
                    f"The server of {self._database.shown_url} grants one lock to two sessions at "
                    f"once, so it keeps nobody out: {self._version(other)}. Nothing was changed. "
                    "The orchestrator needs a server whose locks exclude, and a way to it on which "
                    "a session stays one.",
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
