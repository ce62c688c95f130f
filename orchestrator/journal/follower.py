"""Follows journals as they grow: through rotation, truncation, and a file that is yet to come."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from orchestrator.journal.generations import older
from orchestrator.journal.reader import Lines, Tally, decode
from orchestrator.timeline.entries import Entry

_BLOCK: Final = 256 * 1024
_HEAD: Final = 64
_ROTATED_FILES: Final = 64
"""How many rotated files are still watched: a run finishes in the file in which it began.

So many, since a process that gets no time can be behind by any number of rotations.
"""


class Follower:
    """What is appended to these files from now on; ask with `poll`, close with `close`.

    A file that is not there is waited for, and then read from its beginning. The older
    generation of each is followed, too: a run may go on in it. The last `recent_bytes` of each are
    given first, a line that they cut excepted.
    """

    def __init__(self, paths: Iterable[Path], tally: Tally, *, recent_bytes: int = 0) -> None:
        named = dict.fromkeys(paths)
        of_these = {older(path) for path in named}
        self._followed = [
            _Followed(path, tally, recent_bytes) for path in named if path not in of_these
        ]

    def poll(self) -> list[Entry]:
        """The new entries of all files by time, without waiting for any.

        Raises `OSError` where a file is there and cannot be read.
        """
        found = [entry for followed in self._followed for entry in followed.poll()]
        return sorted(found, key=lambda entry: entry.at)

    def close(self) -> None:
        """Close all files; the follower cannot be used afterwards."""
        for followed in self._followed:
            followed.close()


class _Followed:
    """One path: the file that has its name now, and those that had it before."""

    def __init__(self, path: Path, tally: Tally, recent_bytes: int) -> None:
        self._path = path
        self._tally = tally
        self._files: list[_GrowingFile] = []
        self._take(skip_all_but=recent_bytes)

    def poll(self) -> list[Entry]:
        if not self._has_current():
            self._take()
        found = [entry for file in self._files for entry in file.poll()]
        for position, file in enumerate(reversed(tuple(self._files))):
            if file.is_deleted() or position > _ROTATED_FILES:
                self._files.remove(file)
                file.close()
        return found

    def close(self) -> None:
        for file in self._files:
            file.close()

    def _has_current(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return True  # between rename and create, or deleted: there is nothing to open
        return self._follows(status)

    def _follows(self, status: os.stat_result) -> bool:
        return any(file.identity == (status.st_dev, status.st_ino) for file in self._files)

    def _take(self, *, skip_all_but: int | None = None) -> None:
        """Open the file that has the name now, and the one that had it before, where it is new."""
        # In this order a file that is rotated in between is met twice, and not missed.
        self._open(self._path, skip_all_but)
        previous = older(self._path)
        if previous.is_file():
            self._open(previous, skip_all_but)

    def _open(self, path: Path, skip_all_but: int | None) -> None:
        try:
            # Unbuffered: a buffer would go on to show what a truncation has taken away.
            file = path.open("rb", buffering=0)
        except FileNotFoundError:
            return
        if self._follows(os.fstat(file.fileno())):
            file.close()
        else:
            self._files.append(_GrowingFile(file, self._tally, skip_all_but))


class _GrowingFile:
    """One open file, and how far it has been read."""

    def __init__(self, file: io.FileIO, tally: Tally, skip_all_but: int | None) -> None:
        self._file = file
        self._tally = tally
        self._lines = Lines(tally)
        self._head = b""
        self._position = 0
        if skip_all_but is not None:
            self._position = max(0, file.seek(0, os.SEEK_END) - skip_all_but)
        status = os.fstat(file.fileno())
        self.identity = (status.st_dev, status.st_ino)
        self._remember_head()

    def poll(self) -> list[Entry]:
        if self._was_truncated():
            self._position = 0
            self._lines = Lines(self._tally)
            self._head = b""
        found = []
        self._file.seek(self._position)
        while block := self._file.read(_BLOCK):
            self._position += len(block)
            for line in self._lines.feed(block):
                entry = decode(line)
                if entry is not None:
                    found.append(entry)
                elif line.strip():
                    self._tally.unreadable_lines += 1
        self._remember_head()
        return found

    def is_deleted(self) -> bool:
        return os.fstat(self._file.fileno()).st_nlink == 0

    def close(self) -> None:
        self._file.close()

    def _was_truncated(self) -> bool:
        """Also where it has grown beyond the old end since: its beginning is another one then."""
        size = os.fstat(self._file.fileno()).st_size
        return size < self._position or self._read_head(len(self._head)) != self._head

    def _remember_head(self) -> None:
        if len(self._head) < _HEAD:
            self._head = self._read_head(_HEAD)

    def _read_head(self, size: int) -> bytes:
        self._file.seek(0)
        return self._file.read(size)
