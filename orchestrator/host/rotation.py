"""Rotates a journal: an empty file takes its place, and it becomes the one older generation.

Whoever writes the journal meanwhile goes on in the file that is open; whoever opens it finds one or
the other file, at every instant.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from orchestrator.host.directory import directory_of
from orchestrator.journal.generations import older

_ANEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def rotate(path: Path, descriptor: int, max_bytes: int) -> bool:
    """Rotate the journal that is open, if it is longer than that; whether to open the path anew.

    Of several processes that find it too long one rotates it, since the file is locked (`flock`)
    for as long as that takes. Whoever comes meanwhile goes on in it, and whoever comes later finds
    another file at the path. Raises `OSError` where it cannot be rotated.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        full = os.fstat(descriptor)
        if full.st_size <= max_bytes:  # emptied in its place
            return False
        with directory_of(path) as directory:
            if _is_named(path.name, full, directory):
                _succeed(path.name, full, directory)
        return True
    finally:
        # Not left to close(): a child that a thread forks at this moment may have it open, too.
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _is_named(name: str, full: os.stat_result, directory: int) -> bool:
    """Whether the file still has its name: else the young one would drop it."""
    try:
        named = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, full)


def _succeed(name: str, full: os.stat_result, directory: int) -> None:
    """Let an empty file, of the same owner and mode, follow upon the full one.

    At no instant is there no file of that name: somebody would make one, with another mode, or
    may make none. Who is killed on the way leaves what the next one takes up.
    """
    successor, previous = f".{name}.rotating", older(Path(name)).name
    also = f".{name}.older"
    for left in (successor, also):
        with suppress(FileNotFoundError):
            os.unlink(left, dir_fd=directory)
    empty = os.open(successor, _ANEW, 0o600, dir_fd=directory)
    try:
        # Of somebody else's file only root can make another: its owner could lose his rights.
        os.fchown(empty, full.st_uid, full.st_gid)
        os.fchmod(empty, full.st_mode & 0o666)
        # The older generation goes only when the next one is in its place.
        os.link(name, also, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
        os.rename(also, previous, src_dir_fd=directory, dst_dir_fd=directory)
        with suppress(FileNotFoundError):  # two names of one file are both kept
            os.unlink(also, dir_fd=directory)
        os.rename(successor, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        for left in (successor, also):
            with suppress(OSError):
                os.unlink(left, dir_fd=directory)
        raise
    finally:
        os.close(empty)
