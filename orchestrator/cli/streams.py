"""What the command line prints through: what cannot be written is lost, and nothing else.

Printing never decides what a command does, nor its exit code. That holds for what `env.py` and
revisions print, too: they get the same `sys.stdout` and `sys.stderr`.
"""

from __future__ import annotations

import errno
import io
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final, TextIO, cast

_writing: Final = threading.RLock()
"""Held by whoever writes, and by whoever forks: else a child could find the lock of a buffer held,
by a thread that it does not have. Python sees to that for its own streams only."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_writing.acquire,
        after_in_parent=_writing.release,
        after_in_child=_writing.release,
    )

_NAMES: Final = ("stdin", "stdout", "__stdout__", "stderr", "__stderr__")


class _LosingBuffer(io.BufferedWriter):
    """What takes everything for a descriptor; `lost` is why it could not, the first time.

    The descriptor itself is written by Python's own code: an interrupt in the middle of ours
    would leave in the buffer what is written already, to be written again.
    """

    lost: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it, now or later, or lose it."""
        try:
            with _writing:
                return super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)

    def flush(self) -> None:
        """Write what is left, or lose it."""
        try:
            with _writing:
                super().flush()
        except OSError as error:
            self.lost = self.lost or error


class _LosingStream(io.TextIOWrapper):
    """A text stream that takes everything, whatever its encoding; it stays open."""

    def __init__(self, like: io.TextIOWrapper, descriptor: int) -> None:
        self.losing = _LosingBuffer(io.FileIO(descriptor, "w", closefd=False))
        super().__init__(
            self.losing,
            encoding=like.encoding,
            errors="backslashreplace",
            line_buffering=like.line_buffering or like.write_through,
        )

    def close(self) -> None:
        """Write what is left."""
        self.flush()


def lose_words_only() -> None:
    """Let `sys.stdout` and `sys.stderr` lose what cannot be written, from now on.

    A stream that whoever started this process has closed leads nowhere. What is no stream of
    the operating system's is left alone.
    """
    made: dict[int, TextIO] = {}
    for name in _NAMES:
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _nowhere("r" if name == "stdin" else "w"))
        elif type(stream) is io.TextIOWrapper and name != "stdin":
            made[id(stream)] = made.get(id(stream)) or _losing(stream)
            setattr(sys, name, made[id(stream)])


@contextmanager
def words_lost_only() -> Iterator[None]:
    """The same for as long as this lasts; at its end it is told why a result was lost.

    A reader that has gone wants no more of it, and is not told.
    """
    own = {name: getattr(sys, name) for name in _NAMES}
    lose_words_only()
    made = [new for name in _NAMES if (new := getattr(sys, name)) is not own[name]]
    try:
        yield
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # one that was left alone
                stream.flush()
        lost = stdout_lost()
        if lost is not None and lost.errno != errno.EPIPE:
            print(f"orchestrator: stdout cannot be written: {lost.strerror}.", file=sys.stderr)
    finally:
        for name, stream in own.items():
            setattr(sys, name, stream)
        for stream in made:
            stream.close()


def losing_at(descriptor: int, like: TextIO) -> TextIO:
    """A stream like another one, elsewhere, that loses what cannot be written."""
    if not isinstance(like, io.TextIOWrapper):
        raise TypeError(f"no stream of the operating system's: {like!r}")
    return _LosingStream(like, descriptor)


def stdout_lost(stream: IO[str] | None = None) -> OSError | None:
    """Why something that was printed to stdout is lost; None if all was written so far.

    `stream` is what leads there where `sys.stdout` does not.
    """
    stream = sys.stdout if stream is None else stream
    return stream.losing.lost if isinstance(stream, _LosingStream) else None


def _losing(stream: io.TextIOWrapper) -> TextIO:
    with suppress(OSError, ValueError):
        stream.flush()  # what was printed before
    try:
        return _LosingStream(stream, stream.fileno())
    except io.UnsupportedOperation:  # it has no descriptor
        return stream
    except (OSError, ValueError):  # it, or its descriptor, is closed
        return _nowhere("w")


def _nowhere(mode: str) -> TextIO:
    return cast("TextIO", Path(os.devnull).open(mode))
