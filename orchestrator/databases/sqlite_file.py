"""The file behind a SQLite URL: which one it is, and by how many names it is reached."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import URL

_TRUE: Final = ("true", "yes", "on", "y", "t", "1")  # as SQLAlchemy reads a query's `uri`


def file_of(url: URL) -> Path | None:
    """The absolute path of the file that a URL names; None where it is in memory.

    Like SQLite's own driver: relative to the working directory. With `uri=true` the database
    is a `file:` URI (https://www.sqlite.org/uri.html).
    """
    database = url.database or ""
    if url.query.get("mode") == "memory" or database in ("", ":memory:"):
        return None
    if str(url.query.get("uri")).lower() in _TRUE and database.startswith("file:"):
        parts = urlsplit(database)
        database = unquote(parts.path)
        if database in ("", ":memory:") or "mode=memory" in parts.query:
            return None
    return Path(os.path.abspath(database))


def starts_at_home(url: URL) -> bool:
    """Whether a file is named as if `~` were expanded, which neither SQLite nor SQLAlchemy does."""
    first = (url.database or "").split("/")[0]
    return first.startswith("~") and not os.path.isdir(first)


def identity(file: Path) -> str:
    """The real path: links to the file lead to the same database."""
    return f"sqlite:{os.path.realpath(file)}"


def other_names(file: Path) -> str | None:
    """How a file is reached by several names that the file system cannot tell from one another.

    None where it has one, or does not exist.
    """
    if not file.exists():
        return None
    if file.stat().st_nlink > 1:
        return "has several names, by hard links"
    return "is itself a mount point" if _is_mount_point(os.path.realpath(file)) else None


def _is_mount_point(path: str) -> bool:
    """Whether a file is bind-mounted, as `docker run -v app.db:/app.db` does (proc(5))."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
            points = [line.split()[4] for line in mounts]
    except OSError:
        return False
    return path.replace(" ", "\\040") in points
