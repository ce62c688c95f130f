"""The directory that the processes of one database share, and how its files are opened."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import DENIED, ConfigurationError, by_setting

_SHARED_TEMPORARY: Final = stat.S_ISVTX | stat.S_IWOTH
_LOCK: Final = "lock"
_PROGRAM: Final = "migration-orchestrator"
_PATH: Final = getattr(os, "O_PATH", os.O_RDONLY)
"""Opens a directory by which others are reached, also where this user may not list it."""


@dataclass(frozen=True, slots=True)
class StateDirectory:
    """Holds the lock, the record, the heads and the journal of one database.

    It lies beside the SQLite file, because that is what the processes share, and takes the
    owner and mode of the directory it stands in, as SQLite's own side files do: a run as root
    does not lock the service's user out. In a shared temporary directory it is private. A link
    in its place is not followed there, nor by root in another user's directory.
    """

    path: Path
    is_private: bool = False

    @classmethod
    def of_user(cls, identity: str) -> StateDirectory:
        """The state directory of a database that is no file: one for each user of this host.

        Under `$XDG_STATE_HOME`, else `~/.local/state`; where there is no home that can be written,
        in the temporary directory.
        """
        digest = hashlib.blake2b(os.fsencode(identity), digest_size=6).hexdigest()
        named = re.sub(r"[^\w.-]", "_", identity.rpartition("/")[2])[:32]
        home = os.environ.get("XDG_STATE_HOME", "")
        if os.path.isabs(home):
            base = Path(home)
        else:
            base = Path(os.path.expanduser("~"), ".local", "state")
            if not _may_be_made(base):
                temporary = Path(tempfile.gettempdir())
                user = os.geteuid()
                return cls(temporary / f"{_PROGRAM}-{user}-{named}-{digest}", is_private=True)
        return cls(base / _PROGRAM / f"{named}-{digest}", is_private=True)

    @classmethod
    def beside(cls, file: Path) -> StateDirectory:
        """The state directory of a SQLite file; links to the file lead to the same one."""
        real = Path(os.path.realpath(file))
        return cls(real.parent / f".{real.name}.orchestrator")

    @property
    def lock(self) -> Path:
        """The file that is locked; never deleted, since a deleted lock excludes nobody."""
        return self.path / _LOCK

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
            os.makedirs(self.path.parent, mode=0o700 if self.is_private else 0o777, exist_ok=True)
            with _opened(self.path.parent) as above:
                _make(self.path.name or ".", above)
                objection = _objection(self.path.name or ".", above)
        except OSError as error:
            raise self._unusable(error) from error
        if objection is not None:
            raise self._unusable(objection)

    def _unusable(self, error: OSError | str) -> ConfigurationError:
        reason = error if isinstance(error, str) else error.strerror or str(error)
        return ConfigurationError(
            f"The state directory {self.path} cannot be used: {reason}. Nothing was changed. "
            "Name another, which all processes of this database must share: "
            f"{by_setting('state_dir')}.",
            setting="state_dir",
            denied=isinstance(error, OSError) and error.errno in DENIED,
        )


def _may_be_made(directory: Path) -> bool:
    """Whether this user can make files in a directory, or the directory itself."""
    nearest = directory
    while not os.path.lexists(nearest) and nearest != nearest.parent:
        nearest = nearest.parent
    # Not at the root of the file system: a user without a home has it there.
    return nearest != nearest.parent and os.access(nearest, os.W_OK | os.X_OK)


def _make(name: str, above: int) -> None:
    """Make the directory in the one that is open, where nothing has its name.

    The owner of the directory above can put something else into the place of what was made. So
    it gets owner and mode by descriptor, and only if it is empty and ours: he could have made as
    much himself. Then it is renamed, with its lock in it, so that it takes nobody's place.
    """
    around = os.fstat(above)
    if _status(name, above) is not None:
        return
    temporary = f"{name}.{os.urandom(8).hex()}"
    os.mkdir(temporary, 0o700, dir_fd=above)
    try:
        with _opened(temporary, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=above) as made:
            if os.listdir(made):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
            if os.fstat(made).st_uid == os.geteuid():
                _take_after(around, made, 0o700 if _is_shared(around) else around.st_mode)
            os.close(_open_in(made, _LOCK, os.O_RDWR | os.O_CREAT))
            try:
                os.rename(temporary, name, src_dir_fd=above, dst_dir_fd=above)
            except OSError:
                os.unlink(_LOCK, dir_fd=made)
                raise
    except OSError:
        with suppress(OSError):
            os.rmdir(temporary, dir_fd=above)
        if _status(name, above) is None:  # else another process was quicker
            raise


def _objection(name: str, above: int) -> OSError | str | None:
    """Why the directory of this name must not or cannot be used; None if it can."""
    around = os.fstat(above)
    status = os.stat(name, dir_fd=above, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        if _is_shared(around):
            return "it is a symbolic link, in a directory that all can write"
        if not _follows_links(around):
            return "it is a symbolic link, in a directory of another user"
        status = os.stat(name, dir_fd=above)
    if not stat.S_ISDIR(status.st_mode):
        return "something that is not a directory has its name"
    if _is_shared(around) and status.st_uid not in (os.geteuid(), around.st_uid):
        return "it belongs to another user, in a directory that all can write"
    effective = os.access in os.supports_effective_ids
    if not os.access(name, os.W_OK | os.X_OK, dir_fd=above, effective_ids=effective):
        read_only = os.statvfs(above).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
        return OSError(code, os.strerror(code))
    return None


def _status(name: str, above: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=above, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _take_after(directory: os.stat_result, descriptor: int, mode: int) -> None:
    """Give what was made in a directory its mode, and as root the directory's owner."""
    os.fchmod(descriptor, stat.S_IMODE(mode))
    if os.geteuid() == 0 and not _is_shared(directory):
        os.fchown(descriptor, directory.st_uid, directory.st_gid)


def _is_shared(directory: os.stat_result) -> bool:
    """Whether it is one like /tmp, in which all can write."""
    return directory.st_mode & _SHARED_TEMPORARY == _SHARED_TEMPORARY


def _follows_links(directory: os.stat_result) -> bool:
    """Whether a link in this directory may lead to another: not where anybody may have made it.

    Root, who may write wherever it leads, trusts nobody else's directory either.
    """
    return not _is_shared(directory) and (os.geteuid() != 0 or directory.st_uid == 0)


@contextmanager
def _opened(path: str | Path, flags: int = _PATH, dir_fd: int | None = None) -> Iterator[int]:
    """A directory's descriptor. What is done by it is done there, whatever its path leads to."""
    descriptor = os.open(path, flags | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def directory_of(path: str | Path) -> Iterator[int]:
    """The directory that a file stands in, not by a link that must not be followed."""
    above, name = os.path.split(os.path.dirname(path) or ".")
    with _opened(above or ".") as parent:
        link = 0 if _follows_links(os.fstat(parent)) else os.O_NOFOLLOW
        with _opened(name or ".", _PATH | link, dir_fd=parent) as descriptor:
            yield descriptor


def open_shared(path: str | Path, flags: int) -> int:
    """Open a file in the way of `open()`'s opener; never through a link, never into a child.

    A file that is made takes owner and mode from the directory it stands in. Somebody's pipe
    in the file's place is not waited for.
    """
    with directory_of(path) as directory:
        return _open_in(directory, os.path.basename(path), flags)


def replace_shared(path: str | Path, content: str) -> None:
    """Write a file by atomic replacement, so that a reader sees all of one or of another.

    Owner and mode are those of a file that `open_shared` makes. Raises `OSError`, and leaves
    nothing behind.
    """
    name = os.path.basename(path)
    temporary = f"{name}.{os.getpid()}.tmp"
    with directory_of(path) as directory:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        try:
            anew = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(_open_in(directory, temporary, anew), "w", encoding="utf-8") as file:
                file.write(content)
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise


def _open_in(directory: int, name: str, flags: int) -> int:
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    if not flags & os.O_CREAT:
        return os.open(name, flags, dir_fd=directory)
    anew = bool(flags & os.O_EXCL)
    while True:
        try:
            if not anew:
                return os.open(name, flags & ~os.O_CREAT, dir_fd=directory)
        except FileNotFoundError:
            pass
        try:
            descriptor = os.open(name, flags | os.O_EXCL, 0o600, dir_fd=directory)
        except FileExistsError:
            if anew:
                raise
            continue  # somebody else made it in between; a dangling link ends in ELOOP above
        around = os.fstat(directory)
        mode = 0o600 if _is_shared(around) else around.st_mode & 0o666
        _take_after(around, descriptor, mode)
        return descriptor
