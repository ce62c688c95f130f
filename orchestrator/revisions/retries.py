"""Why a pass of `env.py` is begun anew, after what pause, and for how long."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Final

from orchestrator.databases.patience import WRITER
from orchestrator.errors import DatabaseUnavailable, LockTimeout, by_setting
from orchestrator.revisions.environment_context import PassOptions
from orchestrator.revisions.transactions.base import Blocked, Fenced

_PAUSE_SECONDS: Final = (0.05, 0.2)
_FIRST_PAUSE_SECONDS: Final = 0.25
_LONGEST_PAUSE_SECONDS: Final = 10.0
_AT_WORK: Final = "another run is at work"


class Retries:
    """What is waited for between two tries of one pass; each reason has a time of its own."""

    def __init__(self, options: PassOptions) -> None:
        self._options = options
        self._unavailable = options.patience.wait()
        self._fenced = replace(options.patience, timeout_seconds=options.lock_seconds).wait()
        self._blocked_since: float | None = None
        self._tries = 0

    def pause(self, others: Blocked | Fenced | DatabaseUnavailable) -> None:
        """Wait for what was in the way of the last try.

        Raises an `OrchestratorError` where waiting does not help, or has lasted long enough.
        """
        if isinstance(others, Blocked):
            self._pause_blocked(others)
            return
        if isinstance(others, Fenced):
            if self._fenced.is_over:
                raise self._timeout()
            self._fenced.tell(_AT_WORK)
        else:
            if not others.is_worth_waiting or self._unavailable.is_over:
                raise others
            self._unavailable.tell(others.reason or WRITER)
        time.sleep(random.uniform(*_PAUSE_SECONDS))

    def _pause_blocked(self, blocked: Blocked) -> None:
        """Ever longer, so that those who waited behind the statement get through."""
        now = time.monotonic()
        if self._blocked_since is None:
            self._blocked_since = now - self._options.ddl_lock_seconds
        waited = now - self._blocked_since
        self._tries += 1
        if waited >= self._options.ddl_retry_seconds:
            raise self._kept_out(blocked, waited) from blocked
        longest = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**self._tries)
        pause = random.uniform(longest / 2, longest)
        self._options.blocked(blocked, self._tries, waited, pause)
        until = now + pause
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _PAUSE_SECONDS[0]))
            self._options.patience.interrupted()

    def _timeout(self) -> LockTimeout:
        waited = self._fenced.seconds
        return LockTimeout(
            f"The lock was free, but {_AT_WORK} in {self._options.database.shown_url}, and was for "
            f"all of the {waited:.1f} s that this process waited. Nothing was changed. To wait "
            f"longer, set {by_setting('lock_timeout_seconds')}; or end its session, which the "
            "server lists, and with it the work.",
            lock="fence",
            holder=None,
            waited_seconds=waited,
        )

    def _kept_out(self, blocked: Blocked, waited: float) -> DatabaseUnavailable:
        by = "; ".join(map(str, blocked.blockers)) or "others, of whom the server does not tell"
        of = f" of revision {blocked.revision}" if blocked.revision else ""
        number = blocked.blockers[0].pid if blocked.blockers else "…"
        ends = self._options.database.end_session(number)
        return DatabaseUnavailable(
            f"A statement{of} did not get a table to itself, in {self._tries} tries within "
            f"{waited:.0f} s: {blocked.statement}\n  In the way: {by}.\n"
            f"Let that end, or end it by `{ends}`, and start "
            "again; or wait longer: set "
            f"{by_setting('ddl_lock_timeout_seconds')} for each try, during which all others wait "
            f"behind it, and {by_setting('ddl_retry_seconds')} for all of them.",
            url=self._options.database.shown_url,
            waited_seconds=waited,
            busy=True,
            reason="others hold a table that a migration needs",
        )
