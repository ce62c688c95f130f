"""Every error that this library raises on purpose: one root, an exit code for each.

The text of an error is written for the person who reads it in the middle of a deploy: what
happened, to what, what is still intact, what to do next. It never holds a password.
"""

from __future__ import annotations

import errno
from typing import ClassVar, Final

from orchestrator.results import AppliedRevision, ErrorReport, Holder

OPTIONS: Final = {
    "accepted_differences": "--accepted-differences",
    "app": "--app",
    "bootstrap": "--bootstrap",
    "database_url": "--database-url",
    "lock_timeout_seconds": "--lock-timeout",
    "log": "--log",
    "mode": "--mode",
    "script_location": "--script-location",
    "tag": "--tag",
    "target": "--target",
    "x_args": "--x-arg",
}
"""Settings that have an option of their own; all others are given by `--set NAME=VALUE`."""


def by_setting(name: str, value: str = "…") -> str:
    """A setting as advice names it: by key, option and variable.

    >>> by_setting("unversioned", "adopt")
    '`unversioned = "adopt"` (--set unversioned=adopt, or ORCHESTRATOR_UNVERSIONED=adopt)'
    >>> by_setting("script_location")
    '`script_location` (--script-location …, or ORCHESTRATOR_SCRIPT_LOCATION=…)'
    """
    option = f"{OPTIONS[name]} {value}" if name in OPTIONS else f"--set {name}={value}"
    key = f"`{name}`" if value == "…" else f'`{name} = "{value}"`'
    return f"{key} ({option}, or ORCHESTRATOR_{name.upper()}={value})"


class OrchestratorError(Exception):
    """The root. `applied` lists the revisions that are durable all the same.

    `committed` says whether a part of the work may be durable that is no whole revision.
    `scripts_failed` says that the fault lies in what `env.py` or a revision file does when it is
    executed: the same scripts would fail again.
    """

    exit_code: ClassVar[int] = 1
    scripts_failed: bool = False
    applied: tuple[AppliedRevision, ...] = ()
    committed: bool = False

    def report(self) -> ErrorReport:
        """This error as results and events carry it."""
        return ErrorReport(
            type=type(self).__name__, message=str(self), exit_code=type(self).exit_code
        )


class TaskFailed(OrchestratorError):
    """A task raised. `rolled_back`: the database is as it was before the run."""

    scripts_failed = True

    def __init__(
        self,
        message: str,
        *,
        task: str,
        revision: str | None = None,
        file: str | None = None,
        line: int | None = None,
        rolled_back: bool = True,
    ) -> None:
        super().__init__(message)
        self.task = task
        self.revision = revision
        self.file = file
        self.line = line
        self.rolled_back = rolled_back


class VerificationFailed(OrchestratorError):
    """The work claimed to have succeeded, and the database says otherwise."""

    scripts_failed = True

    def __init__(
        self, message: str, *, expected: tuple[str, ...] = (), found: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.expected = expected
        self.found = found


class PeerFailed(OrchestratorError):
    """The process that led failed while this one waited for it."""

    def __init__(self, message: str, *, leader: Holder, error: ErrorReport) -> None:
        super().__init__(message)
        self.leader = leader
        self.error = error


DENIED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the operating system says to who has no right to write."""


class ConfigurationError(OrchestratorError):
    """A setting, a script or an argument cannot be used as it is.

    `denied` says that what is needed for work cannot be written: there is no right to it, or
    no room.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        *,
        setting: str | None = None,
        source: str | None = None,
        allowed: tuple[str, ...] = (),
        scripts_failed: bool = False,
        denied: bool = False,
    ) -> None:
        super().__init__(message)
        self.scripts_failed = scripts_failed
        self.setting = setting
        self.source = source
        self.allowed = allowed
        self.denied = denied


class LockTimeout(OrchestratorError):
    """Somebody else held the lock until the deadline; nothing was changed."""

    exit_code = 3

    def __init__(
        self, message: str, *, lock: str | None, holder: Holder | None, waited_seconds: float
    ) -> None:
        super().__init__(message)
        self.lock = lock
        self.holder = holder
        self.waited_seconds = waited_seconds


class StateRefused(OrchestratorError):
    """The database is in a state that the policy does not touch; nothing was changed.

    `seen` says of the database, in the middle of a sentence, what it is like.
    """

    exit_code = 4

    def __init__(
        self,
        message: str,
        *,
        state: str,
        found: tuple[str, ...] = (),
        advice: str = "",
        seen: str = "",
    ) -> None:
        super().__init__(message)
        self.seen = seen or f"is {state}"
        self.state = state
        self.found = found
        self.advice = advice


class DatabaseUnavailable(OrchestratorError):
    """The database cannot be opened, or is busy. `url` is redacted.

    The message is without a word of what is intact: who knows what was committed has to `say` it.

    `busy` says whether another process's work was in the way, and `unreachable` whether it did not
    answer, so that trying again helps; `reason` says what was so, in the middle of a sentence.
    `damaged` says that the file is, so that nothing but a backup helps.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        url: str,
        waited_seconds: float = 0.0,
        busy: bool = False,
        damaged: bool = False,
        unreachable: bool = False,
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.url = url
        self.unreachable = unreachable
        self.reason = reason
        self.waited_seconds = waited_seconds
        self.busy = busy
        self.damaged = damaged
        self._says_what_is_intact = damaged

    @property
    def is_worth_waiting(self) -> bool:
        """Whether it may be otherwise in a while."""
        return self.busy or self.unreachable

    def say(self, intact: str) -> None:
        """Add what is intact. Only the first counts, who is nearest to the work.

        Of a damaged file nothing is said to be.
        """
        if not self._says_what_is_intact:
            self._says_what_is_intact = True
            self.args = (f"{self} {intact}",)


class Interrupted(BaseException):
    """Not an error: work in a thread is not wanted any more. Never leaves the library."""
