"""Connections of our own: for the probe and the proof, never for the migrations."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Final, TypeVar
from urllib.parse import quote

from sqlalchemy import create_engine
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from orchestrator.database_url import redact, sqlite_file
from orchestrator.errors import DatabaseUnavailable

_TRY_SECONDS: Final = 0.1
_PAUSE_SECONDS: Final = 0.05

T = TypeVar("T")


def exists(url: URL) -> bool:
    """Whether there is a database at all: for SQLite, something that has the file's name."""
    file = sqlite_file(url)
    return file is not None and os.path.lexists(file)


@contextmanager
def connect(url: URL) -> Iterator[Connection]:
    """A connection to a database that exists; closed at the end of the block.

    Opening never makes the file. It is opened for reading and writing, since one that can only
    read fails on the journal that a killed writer leaves (https://www.sqlite.org/uri.html).

    Raises `DatabaseUnavailable`; `busy` is set where a writer was in the way for 0.1 s.
    """
    try:
        with _engine(str(sqlite_file(url))).connect() as connection:
            yield connection
    except DBAPIError as error:
        raise unavailable(url, error) from error


@lru_cache(maxsize=8)
def _engine(file: str) -> Engine:
    """Keeps no connection, only what SQLAlchemy found out about the driver."""
    own = URL.create(
        "sqlite",
        database=f"file:{quote(file)}",
        query={"mode": "rw", "uri": "true", "timeout": str(_TRY_SECONDS)},
    )
    return create_engine(own, poolclass=NullPool)


def patiently(
    ask: Callable[[], T], *, timeout_seconds: float, interrupted: Callable[[], None]
) -> T:
    """What `ask` returns, asked again while the database is busy.

    `interrupted` is called between tries, and may raise. Raises `DatabaseUnavailable` with
    the seconds waited at the deadline, and at once where waiting would not help.
    """
    began = time.monotonic()
    while True:
        try:
            return ask()
        except DatabaseUnavailable as error:
            waited = time.monotonic() - began
            if not error.busy:
                raise
            if waited >= timeout_seconds:
                raise DatabaseUnavailable(
                    f"The database {error.url} was busy for {waited:.1f} s: another process is "
                    "writing to it all the time. Nothing was changed.",
                    url=error.url,
                    waited_seconds=waited,
                    busy=True,
                ) from error
        interrupted()
        time.sleep(_PAUSE_SECONDS)


def is_read_only(error: BaseException) -> bool:
    """Whether SQLite said that the file, or its directory, cannot be written."""
    original = getattr(error, "orig", error)
    code = getattr(original, "sqlite_errorcode", 0) or 0
    return code & 0xFF == sqlite3.SQLITE_READONLY


def unavailable(url: URL, error: DBAPIError) -> DatabaseUnavailable:
    """What the driver raised, in words: why the database cannot be used."""
    file, shown = sqlite_file(url), redact(url)
    code = (getattr(error.orig, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseUnavailable(
            f"The database {shown} is busy: another process is writing.", url=shown, busy=True
        )
    if code == sqlite3.SQLITE_NOTADB:
        reason = "the file is not a SQLite database"
    elif file is not None and os.path.isdir(file):
        reason = "it is a directory"
    elif file is not None and not os.access(file, os.R_OK | os.W_OK):
        reason = "this user has no permission to read and write the file"
    else:
        reason = str(error.orig)
    return DatabaseUnavailable(
        f"The database {shown} cannot be opened: {reason}. Nothing was changed.", url=shown
    )
