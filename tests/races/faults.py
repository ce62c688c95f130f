"""What goes wrong in a race, and how it is made to."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.races.processes import Process

_DISK_BYTES: Final = 1_500_000
_GOOD: Final = {
    "run_id": "0123456789ab",
    "host": "elsewhere",
    "pid": 1,
    "command": "run",
    "since": "2020-01-01T00:00:00+00:00",
    "release": None,
    "task": None,
    "revision": None,
}

GARBAGE: Final[tuple[bytes, ...]] = (
    b"",
    b"{",
    b"\x00" * 5000,
    b"\xff\xfe\xfa",
    b"null",
    b"[]",
    b"[" * 100_000,
    b'"text"',
    b"{}",
    b'{"version": 1}',
    b'{"version": 2, "holder": {}}',
    b'{"version": 1, "holder": 5, "target": [], "fingerprint": 1, "outcome": 7, "error": ""}',
    json.dumps(
        {
            "version": 1,
            "holder": {**_GOOD, "run_id": ["unhashable"]},
            "target": "heads",
            "fingerprint": None,
            "outcome": "failed",
            "error": None,
        }
    ).encode(),
    json.dumps(
        {
            "version": 1,
            "holder": {**_GOOD, "host": "\ud800"},
            "target": "heads",
            "fingerprint": None,
            "outcome": None,
            "error": None,
        }
    ).encode(),
    json.dumps(
        {
            "version": 1,
            "holder": {**_GOOD, "since": "today"},
            "target": "heads",
            "fingerprint": None,
            "outcome": "ready",
            "error": None,
        }
    ).encode(),
    json.dumps(  # a success that is none
        {
            "version": 1,
            "holder": _GOOD,
            "target": "heads",
            "fingerprint": "00",
            "outcome": "ready",
            "error": None,
        }
    ).encode(),
    json.dumps(  # a failure of other scripts
        {
            "version": 1,
            "holder": {**_GOOD, "run_id": "ba9876543210"},
            "target": "heads",
            "fingerprint": "00",
            "outcome": "failed",
            "error": {"type": "TaskFailed", "message": "not ours", "exit_code": 1},
        }
    ).encode(),
)
"""Records as nobody should write them, and some that only nobody did."""


def overwrite(record: Path, content: bytes) -> None:
    """Write something over the record, in place, so that it can be seen half written."""
    try:
        descriptor = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    except OSError:
        return  # no state directory yet
    try:
        half = len(content) // 2
        os.write(descriptor, content[:half])
        os.write(descriptor, content[half:])
    except OSError:
        pass  # the disk is full: so much the worse for the record
    finally:
        os.close(descriptor)


def limit_files(process: Process, size: int) -> None:
    """Let no file of the process grow beyond a size: a full disk of its own."""
    if process.alive():
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def holder(record: Path, processes: list[Process]) -> Process | None:
    """The process that the record names as the leader."""
    try:
        values = json.loads(record.read_bytes())
        pid = values["holder"]["pid"] if values["outcome"] is None else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    return next((one for one in processes if one.pid == pid and one.alive()), None)


class Filler:
    """A file that leaves no more than so many bytes of a small disk."""

    def __init__(self, disk: Path) -> None:
        self._path = disk / "filler"

    def fill(self, left: int) -> None:
        """Take up the space."""
        status = os.statvfs(self._path.parent)
        size = status.f_bavail * status.f_frsize - left
        if size <= 0:
            return
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while size > 0:
                size -= os.write(descriptor, b"\0" * min(size, 65_536))
        except OSError:
            pass  # others were faster: it is full
        finally:
            os.close(descriptor)

    def empty(self) -> None:
        """Give the space back."""
        self._path.unlink(missing_ok=True)


def can_mount() -> bool:
    """Whether this process may make a small disk."""
    return os.geteuid() == 0 and _LIBC is not None and os.path.exists("/proc/filesystems")


@contextmanager
def small_disk(path: Path) -> Iterator[bool]:
    """A disk of 1.5 MB at a directory, if one can be made; yields whether it is there."""
    path.mkdir(parents=True, exist_ok=True)
    mounted = can_mount() and _mount(path)
    try:
        yield mounted
    finally:
        if mounted and _LIBC is not None:
            _LIBC.umount2(os.fsencode(path), 2)  # MNT_DETACH: whoever is killed may linger


def _mount(path: Path) -> bool:
    options = f"size={_DISK_BYTES}".encode()
    return _LIBC is not None and _LIBC.mount(b"race", os.fsencode(path), b"tmpfs", 0, options) == 0


_LIBC: Final = ctypes.CDLL(None) if os.uname().sysname == "Linux" else None

SIGNALS: Final = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "terminate": signal.SIGTERM}
