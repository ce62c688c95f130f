"""What the servers of the tests need of this machine: a port, a user, room for their files."""

from __future__ import annotations

import ctypes
import os
import pwd
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 4 << 30

_libc = ctypes.CDLL(None, use_errno=True)


class Directories:
    """Where a server keeps its files: what is written at random in memory, where there is room.

    Each database of PostgreSQL is 300 files, and a file system is slow at making and removing
    them: a fifth of the suite's time. A benchmark wants a disk.
    """

    def __init__(self, name: str, *, on_disk: bool) -> None:
        self.base = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.base.chmod(0o755)  # root hands what is in it to another user
        self._data = self.base
        if not on_disk and _has_room(_MEMORY):
            self._data = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=_MEMORY))
            self._data.chmod(0o755)

    def make(self, name: str) -> Path:
        """A directory of the server's own."""
        made = self._data / name
        made.mkdir(mode=0o700)
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(made, nobody.pw_uid, nobody.pw_gid)
        return made

    def remove(self) -> None:
        """Remove them with all that is in them."""
        for directory in (self.base, self._data):
            shutil.rmtree(directory, ignore_errors=True)


def unprivileged() -> dict[str, Any]:
    """As whom `subprocess` starts a server: it refuses to run as root.

    It is a user that the system knows.
    """
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def ended_with_parent(number: signal.Signals) -> Callable[[], None]:
    """What a child executes first, to get this signal when its parent is gone."""
    return lambda: _libc.prctl(PR_SET_PDEATHSIG, number)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _has_room(directory: Path) -> bool:
    if not os.access(directory, os.W_OK | os.X_OK):
        return False
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize >= _ROOM_BYTES
