"""The file lock: `flock(2)` through portalocker. The kernel frees it when its holder dies."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from orchestrator.errors import DENIED, ConfigurationError, by_setting
from orchestrator.locks.base import Lock


@contextmanager
def _some_temporary_directory() -> Iterator[None]:
    """Let a module ask for the temporary directory where none can be written: on a full disk."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.sep
        try:
            yield
        finally:
            tempfile.tempdir = None
    else:
        yield


with _some_temporary_directory():  # portalocker 4.4 asks when it is imported
    import portalocker

_EXCLUSIVE: Final = portalocker.LockFlags.EXCLUSIVE | portalocker.LockFlags.NON_BLOCKING
_SHARED: Final = portalocker.LockFlags.SHARED | portalocker.LockFlags.NON_BLOCKING

_open_descriptors: Final[set[int]] = set()
_forking: Final = threading.RLock()
"""Held by whoever forks, so that no descriptor is open and not yet in the set meanwhile."""


def _close_inherited() -> None:
    """A forked child shares the open file, and with it the lock, until it closes it.

    Closing is safe; unlocking would free the parent's lock (flock(2)).
    """
    _forking.release()
    for descriptor in _open_descriptors:
        os.close(descriptor)
    _open_descriptors.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_forking.acquire,
        after_in_parent=_forking.release,
        after_in_child=_close_inherited,
    )


class FileLock(Lock):
    """An exclusive lock on a file, which is made if need be and never deleted.

    `opener` opens the file (see `open()`'s parameter of that name).
    """

    name = "file"

    def __init__(self, path: Path, opener: Callable[[str, int], int]) -> None:
        self.path = path
        self._opener = opener
        self._descriptor: int | None = None
        self._holder_pid: int | None = None

    def try_acquire(self) -> bool:
        """Take the lock if it is free.

        Raises `ConfigurationError` where the file cannot be opened, or where the file system
        has no working `flock`: a lock that does not exclude is found out by a second try.
        """
        with _forking:
            descriptor = self._open()
            _open_descriptors.add(descriptor)
        if not self._lock(descriptor) or not self._is_at_path(descriptor):
            _close(descriptor)
            return False
        try:
            excludes = self._excludes()
        except BaseException:
            _close(descriptor)  # or the lock would be held as long as the process lives
            raise
        if not excludes:
            _close(descriptor)
            raise self._unlockable("a second lock was granted while the first was held")
        self._descriptor, self._holder_pid = descriptor, os.getpid()
        return True

    def release(self) -> None:
        """Let go; in a forked child, which never held the lock, without effect."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is None or self._holder_pid != os.getpid():
            return
        # Not left to close(): a child that a thread is forking at this moment may still have
        # the descriptor open.
        portalocker.unlock(descriptor)
        _close(descriptor)

    def _open(self) -> int:
        try:
            return self._opener(str(self.path), os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise ConfigurationError(
                f"The lock file {self.path} cannot be opened: {error.strerror}. Nothing was "
                "changed. Every process that migrates must be able to write it.",
                setting="state_dir",
                denied=error.errno in DENIED,
            ) from error

    def _lock(self, descriptor: int) -> bool:
        try:
            portalocker.lock(descriptor, _EXCLUSIVE)
        except portalocker.AlreadyLocked:
            return False
        except portalocker.LockException as error:
            _close(descriptor)
            raise self._unlockable(str(error)) from error
        return True

    def _is_at_path(self, descriptor: int) -> bool:
        """Whether others would lock this same file, and not one made after it was removed."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False

    def _excludes(self) -> bool:
        second = self._open()
        try:
            return not self._lock(second)
        finally:
            os.close(second)

    def _unlockable(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"The file system of {self.path} has no working flock: {reason}. Nothing was changed. "
            "Name a directory on a local file system, which all processes of this database "
            f"share: {by_setting('state_dir')}.",
            setting="state_dir",
        )


def _close(descriptor: int) -> None:
    _open_descriptors.discard(descriptor)
    os.close(descriptor)


def is_held(path: Path) -> bool | None:
    """Whether somebody holds the lock on a file, told without disturbing it.

    Reads `/proc/locks`, where the kernel lists what is held (proc_locks(5)). Where that does
    not tell, a shared lock is tried for an instant. None: the file cannot be opened.
    """
    try:
        status = os.stat(path)
    except OSError:
        return False
    try:
        listed = Path("/proc/locks").read_text()
    except OSError:
        return _try_shared(path)
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    # A line with an arrow is of somebody who waits for the lock.
    lines = (line.split() for line in listed.splitlines() if " -> " not in line)
    inodes = [fields[5] for fields in lines if fields[1] == "FLOCK"]
    if f"{device}:{status.st_ino}" in inodes:
        return True
    # Some file systems (btrfs) show another device there than stat() does.
    if any(inode.rpartition(":")[2] == str(status.st_ino) for inode in inodes):
        return _try_shared(path)
    return False


def _try_shared(path: Path) -> bool | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        portalocker.lock(descriptor, _SHARED)
    except portalocker.AlreadyLocked:
        return True
    except portalocker.LockException:
        return None
    finally:
        os.close(descriptor)
    return False
