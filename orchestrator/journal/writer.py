"""The journal: one JSON object a line, one write a line, appended by many processes at once.

Every run opens the file anew, so that a rotation loses nothing, from outside (rename and create)
or by whoever opens it: a run in progress finishes in the file it began in.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import DENIED, ConfigurationError, by_setting
from orchestrator.events import Event, level_of, to_dict

_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CREAT
_GROWING_SECONDS: Final = 0.002


def _open_plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who writes: the envelope of every line, besides the event. `database` is redacted."""

    host: str
    pid: int
    database: str
    release: str | None

    def entry(self, event: Event) -> dict[str, Any]:
        """The event in its envelope, as a line has it."""
        values = to_dict(event)
        return {
            "at": values.pop("at"),
            "event": values.pop("event"),
            "level": level_of(event),
            "host": self.host,
            "pid": self.pid,
            "database": self.database,
            "release": self.release,
            **values,
        }


class Journal:
    """Appends the events of one run to a file.

    `opener` opens the file (see `open()`'s parameter of that name). Opening raises
    `ConfigurationError` where the file cannot be written: better before anything is migrated
    than after. A write that fails later (a full disk) never stops the migration: it is told
    once, on stderr, and `loss` says what happened.

    A regular file that is longer than `max_bytes` is rotated first, by `rotate`, which tells
    whether there is another file now; 0 is no limit. `unrotated` says why it could not be.
    """

    def __init__(
        self,
        path: Path,
        origin: Origin,
        *,
        opener: Callable[[str, int], int] = _open_plainly,
        max_bytes: int = 0,
        rotate: Callable[[Path, int, int], bool] | None = None,
    ) -> None:
        self.loss: str | None = None
        self.unrotated: str | None = None
        self._path = path
        self._origin = origin
        try:
            self._descriptor = opener(str(path), _FLAGS)
        except OSError as error:
            raise ConfigurationError(
                f"The journal {path} cannot be written: {error.strerror}. Nothing was changed. "
                f'Name another file, or "off" for none: {by_setting("journal")}.',
                setting="journal",
                denied=error.errno in DENIED,
            ) from error
        if max_bytes and rotate is not None and self._is_longer_than(max_bytes):
            try:
                if rotate(path, self._descriptor, max_bytes):
                    full, self._descriptor = self._descriptor, opener(str(path), _FLAGS)
                    os.close(full)
            except OSError as error:
                self.unrotated = (
                    f"the journal {path} is longer than {max_bytes} bytes (`journal_max_bytes`) "
                    f"and keeps growing: it could not be rotated: {error.strerror}"
                )

    def __call__(self, event: Event) -> None:
        """Write one event as one line."""
        if self.loss is not None:
            return
        try:
            self._write(encode(self._origin.entry(event)))
        except OSError as error:
            self.loss = f"the journal {self._path} could not be written: {error.strerror}"
            with suppress(OSError, ValueError, AttributeError):  # stderr may be gone, too
                sys.stderr.write(f"orchestrator: {self.loss}" + "\n")

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        os.close(self._descriptor)

    def _is_longer_than(self, max_bytes: int) -> bool:
        status = os.fstat(self._descriptor)
        return status.st_size > max_bytes and stat.S_ISREG(status.st_mode)

    def _write(self, line: bytes) -> None:
        """Take a line in one `write(2)`, or raise.

        A line that a full disk cut short is an error. Whoever appends next ends it first, so
        that it never runs into another line; an empty line may come of that, and means nothing.
        """
        line = b"\n" + line if self._is_torn() else line
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_torn(self) -> bool:
        """Whether the last line has no end, and is not one that is just being written.

        A line across two pages can be seen half-written (Linux grows the file page by page);
        what is being written grows, and what was cut short does not.
        """
        seen = None
        while (size := os.fstat(self._descriptor).st_size) != seen:
            if size == 0 or os.pread(self._descriptor, 1, size - 1) == b"\n":
                return False
            seen = size
            time.sleep(_GROWING_SECONDS)
        return True


def encode(entry: Mapping[str, Any]) -> bytes:
    """One line of JSON, with its end."""
    text = json.dumps(entry, ensure_ascii=False, separators=(",", ":"))
    # Half of a surrogate pair is of a file name that is no text: as JSON escapes it, too.
    return text.encode(errors="backslashreplace") + b"\n"
