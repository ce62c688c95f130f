"""How another one's work in the database is waited for: so long, and not in silence."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from orchestrator.errors import DatabaseUnavailable, by_setting
from orchestrator.locks.cadence import Cadence

_PAUSE_SECONDS: Final = (0.03, 0.07)
_LONGEST_PAUSE_SECONDS: Final = 2.0
_UNTOLD_SECONDS: Final = 1.0
"""A database in use is busy now and then; a wait is told of when it is longer than that."""

T = TypeVar("T")

WAIT_LONGER: Final = (
    f"Start again when that has ended, or wait longer: set {by_setting('connect_timeout_seconds')}."
)
"""What to do about a database that is busy with another process's work."""

WRITER: Final = "another process is writing to it"
READER: Final = "another connection is reading it"


def _nobody(*_: object) -> None:
    pass


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """For how long the database is waited for, in seconds; `inf` for ever.

    `interrupted` raises where the waiting should end. `tell` gets, now and then, the seconds
    waited so far and what for. With `busy` off, another one's work is not waited for, but only a
    server that does not answer.
    """

    timeout_seconds: float = 30.0
    interrupted: Callable[[], None] = _nobody
    tell: Callable[[float, str], object] = _nobody
    busy: bool = True

    def wait(self) -> Wait:
        """Begin to wait."""
        return Wait(self)


AT_ONCE: Final = Patience(timeout_seconds=0)
"""Nobody is waited for: only for what takes the database itself a moment."""


class Wait:
    """One wait, from now on."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._began = time.monotonic()
        self._cadence = Cadence(_UNTOLD_SECONDS)

    @property
    def seconds(self) -> float:
        """How long it lasts so far."""
        return time.monotonic() - self._began

    @property
    def is_over(self) -> bool:
        """Whether it has lasted as long as it may."""
        return self.seconds >= self._patience.timeout_seconds

    def tell(self, reason: str) -> None:
        """Say what is waited for, if the time for a word has come."""
        waited = self.seconds
        if self._cadence.is_due(waited):
            self._cadence.told(waited)
            self._patience.tell(waited, reason)


def patiently(ask: Callable[[], T], patience: Patience) -> T:
    """What `ask` returns, asked again while the database is busy, or does not answer.

    Raises `DatabaseUnavailable` with the seconds waited at the deadline, and at once where
    waiting would not help; and what `interrupted` raises, between tries.
    """
    wait = patience.wait()
    longest = _PAUSE_SECONDS[1]
    while True:
        try:
            return ask()
        except DatabaseUnavailable as error:
            if not error.is_worth_waiting or (error.busy and not patience.busy):
                raise
            if not patience.timeout_seconds:
                raise  # whoever asks waits in a way of his own
            if wait.is_over:
                raise still(error, wait.seconds) from error
            reason = error.reason or WRITER
            if error.unreachable:  # each try is work for a server that has too much of it
                longest = min(2 * longest, _LONGEST_PAUSE_SECONDS)
        patience.interrupted()
        wait.tell(reason)
        time.sleep(random.uniform(longest / 2, longest))


def still(
    error: DatabaseUnavailable, waited_seconds: float, setting: str = "connect_timeout_seconds"
) -> DatabaseUnavailable:
    """The error of a database that was so for as long as the setting lets it be waited for."""
    longer = f"or wait longer: set {by_setting(setting)}."
    if error.busy:
        told = (
            f"The database {error.url} was busy for {waited_seconds:.1f} s: "
            f"{error.reason or WRITER}. Start again when that has ended, {longer}"
        )
    else:
        told = (
            f"{error} It was waited for {waited_seconds:.1f} s. Start again when it can be "
            f"reached, {longer}"
        )
    return DatabaseUnavailable(
        told,
        url=error.url,
        waited_seconds=waited_seconds,
        busy=error.busy,
        unreachable=error.unreachable,
        reason=error.reason,
    )
