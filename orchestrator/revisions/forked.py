"""A child that a script forks by a bare `os.fork()`, and that comes back like its parent."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from orchestrator.databases.secrets import redacted


@contextmanager
def forked_children_ended() -> Iterator[None]:
    """End a child that was forked in the block where it leaves the block, by whatever way.

    It is a copy of one thread: it shares its parent's connections, has no event loop, and would
    go on with its parent's work.
    """
    pid = os.getpid()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        end_if_forked(pid, error)


def end_if_forked(pid: int, error: BaseException | None) -> None:
    """End this process, at once, unless it has this id; as Python would have ended it.

    What it printed is written; nothing else of its parent's is touched, not even to close it.
    """
    if os.getpid() == pid:
        return
    code = 1
    try:
        code = _code(error)
        # Not `sys.stderr`: a display may stand there, with a lock that a lost thread holds.
        for stream in (sys.__stdout__, sys.__stderr__):
            with suppress(Exception):
                if stream is not None:
                    stream.flush()
    finally:
        os._exit(code)


def _code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return (error.code or 0) & 0xFF
    text = "".join(traceback.format_exception(error))
    if isinstance(error, SystemExit):
        text = f"{error}\n"
    with suppress(Exception):
        print(redacted(text), end="", file=sys.__stderr__)
    return 1
