"""The journal: one JSON object a line, one write a line, appended by many processes at once.

Every run opens the file anew, so that a rotation from outside (rename and create) loses
nothing: a run in progress finishes in the file it began in.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import structlog

from orchestrator.errors import ConfigurationError
from orchestrator.events import Event, level_of, to_dict


def _open_plainly(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Who writes: the envelope of every line, besides the event. `database` is redacted."""

    host: str
    pid: int
    database: str
    release: str | None


class Journal:
    """Appends the events of one run to a file.

    `opener` opens the file (see `open()`'s parameter of that name). Opening raises
    `ConfigurationError` where the file cannot be written: better before anything is migrated
    than after. A write that fails later (a full disk) never stops the migration: it is told
    once, on stderr, and `loss` says what happened.
    """

    def __init__(
        self, path: Path, origin: Origin, *, opener: Callable[[str, int], int] = _open_plainly
    ) -> None:
        self.loss: str | None = None
        self._path = path
        try:
            self._file = _LineFile(path, opener)
        except OSError as error:
            raise ConfigurationError(
                f"The journal {path} cannot be written: {error.strerror}. Nothing was changed. "
                'Name another file with the setting `journal`, or turn it off with "off".',
                setting="journal",
            ) from error
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(cast("BinaryIO", self._file)),
            processors=[structlog.processors.JSONRenderer(serializer=_encode)],
            wrapper_class=structlog.BoundLogger,
        )
        self._envelope = {
            "host": origin.host,
            "pid": origin.pid,
            "database": origin.database,
            "release": origin.release,
        }

    def __call__(self, event: Event) -> None:
        """Write one event as one line."""
        if self.loss is not None:
            return
        values = to_dict(event)
        name = values.pop("event")
        try:
            self._logger.info(name, level=level_of(event), **self._envelope, **values)
        except OSError as error:
            self.loss = f"the journal {self._path} could not be written: {error.strerror}"
            sys.stderr.write(f"orchestrator: {self.loss}; the run goes on without it" + "\n")

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        self._file.close()


class _LineFile:
    """A file that takes a line in one `write(2)`, or says why not.

    A line that a full disk cut short is an error. Whoever appends next ends it first, so that
    it never runs into another line; an empty line may come of that, and means nothing.
    """

    def __init__(self, path: Path, opener: Callable[[str, int], int]) -> None:
        self._descriptor = opener(str(path), os.O_RDWR | os.O_APPEND | os.O_CREAT)

    def write(self, line: bytes) -> None:
        if self._is_torn():
            line = b"\n" + line
        if os.write(self._descriptor, line) < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _is_torn(self) -> bool:
        """Whether the last line has no end; also told of one that is just being written."""
        size = os.fstat(self._descriptor).st_size
        return bool(size) and os.pread(self._descriptor, 1, size - 1) != b"\n"

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        os.close(self._descriptor)


def _encode(values: dict[str, Any], **_: Any) -> bytes:
    ordered = {"at": values.pop("at"), "event": values.pop("event"), **values}
    return json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode(
        errors="backslashreplace"  # of a file name that is no text: as JSON escapes it, too
    )
