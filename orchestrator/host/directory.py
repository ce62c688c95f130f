"""The directory that the processes of one database share, and how its files are opened."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError

_SHARED_TEMPORARY: Final = stat.S_ISVTX | stat.S_IWOTH


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Holds the lock, the record, the heads and the journal of one database.

    It lies beside the SQLite file, because that is what the processes share, and takes the
    owner and mode of the directory it stands in, as SQLite's own side files do: a run as root
    does not lock the service's user out. In a shared temporary directory it is private.
    """

    path: Path

    @classmethod
    def beside(cls, file: Path) -> StateDirectory:
        """The state directory of a SQLite file; links to the file lead to the same one."""
        real = Path(os.path.realpath(file))
        return cls(real.parent / f".{real.name}.orchestrator")

    @property
    def lock(self) -> Path:
        """The file that is locked; never deleted, since a deleted lock excludes nobody."""
        return self.path / "lock"

    @property
    def record(self) -> Path:
        """Who runs now, and how the last run ended."""
        return self.path / "run.json"

    def heads(self, scripts: str) -> Path:
        """What the target is, remembered for the next start; `scripts` is where those lie.

        A file for each, so that services which share a database do not overwrite one another's.
        """
        digest = hashlib.blake2b(os.fsencode(scripts), digest_size=6).hexdigest()
        return self.path / f"heads-{digest}.json"

    @property
    def journal(self) -> Path:
        """What happened."""
        return self.path / "journal.jsonl"

    def prepare(self) -> None:
        """Make the directory and those above it, or see that it can be used.

        Raises `ConfigurationError` where it cannot be made or written, where something else
        has its name, and where it lies in a shared temporary directory and is someone else's.
        """
        try:
            os.makedirs(self.path.parent, exist_ok=True)
            above = os.stat(self.path.parent)
            _make(self.path, above)
            here = os.stat(self.path)
        except OSError as error:
            raise self._unusable(error.strerror or str(error)) from error
        if not stat.S_ISDIR(here.st_mode):
            raise self._unusable("something that is not a directory has its name")
        shared = above.st_mode & _SHARED_TEMPORARY == _SHARED_TEMPORARY
        if shared and os.path.islink(self.path):
            raise self._unusable("it is a symbolic link, in a directory that all can write")
        if shared and here.st_uid not in (os.geteuid(), above.st_uid):
            raise self._unusable("it belongs to another user, in a directory that all can write")
        effective = os.access in os.supports_effective_ids
        if not os.access(self.path, os.W_OK | os.X_OK, effective_ids=effective):
            raise self._unusable(os.strerror(errno.EACCES))

    def _unusable(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"The state directory {self.path} cannot be used: {reason}. Nothing was changed. "
            "Name another with the setting `state_dir`; all processes of one database must "
            "share it.",
            setting="state_dir",
        )


def _make(path: Path, above: os.stat_result) -> None:
    shared = above.st_mode & _SHARED_TEMPORARY == _SHARED_TEMPORARY
    mode = 0o700 if shared else stat.S_IMODE(above.st_mode)
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    os.chmod(path, mode)  # what mkdir() was given is cut by the umask
    if os.geteuid() == 0 and not shared:
        os.chown(path, above.st_uid, above.st_gid)


def open_shared(path: str | Path, flags: int) -> int:
    """Open a file in the way of `open()`'s opener; never through a link, never into a child.

    A file that is made takes owner and mode from the directory it stands in. Somebody's pipe
    in the file's place is not waited for.
    """
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    if not flags & os.O_CREAT:
        return os.open(path, flags)
    anew = bool(flags & os.O_EXCL)
    while True:
        try:
            if not anew:
                return os.open(path, flags & ~os.O_CREAT)
        except FileNotFoundError:
            pass
        directory = os.stat(os.path.dirname(path) or ".")
        try:
            descriptor = os.open(path, flags | os.O_EXCL, 0o600)
        except FileExistsError:
            if anew:
                raise
            continue  # somebody else made it in between; a dangling link ends in ELOOP above
        shared = directory.st_mode & _SHARED_TEMPORARY == _SHARED_TEMPORARY
        os.fchmod(descriptor, 0o600 if shared else directory.st_mode & 0o666)
        if os.geteuid() == 0 and not shared:
            os.fchown(descriptor, directory.st_uid, directory.st_gid)
        return descriptor
