"""The project that is raced for, and what its database is like after each of its revisions."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

from tests.projects import Project, make_project

Dump = tuple[str, ...]

_FIRST: Final = """
op.create_table(
    "applied_log",
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("revision", sa.Text, nullable=False),
    sqlite_autoincrement=True,
)
"""

_EACH: Final = """
import os
pause = float(os.environ.get("RACE_SECONDS", "0")) / 3
op.create_table("{name}", sa.Column("id", sa.Integer, primary_key=True), sa.Column("t", sa.Text))
time.sleep(pause)
op.execute(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
    "INSERT INTO {name} (t) SELECT printf('%0200d', i) FROM n"
)
time.sleep(pause)
if os.path.exists(os.environ.get("RACE_BROKEN", "") + "{name}"):
    raise RuntimeError("broken on purpose")
op.execute("INSERT INTO applied_log (revision) VALUES ('{name}')")
time.sleep(pause)
"""


_ENV_PY: Final = """
import os
from contextlib import suppress
from orchestrator.environment import run_migrations
from models import metadata

marker, me = os.environ.get("RACE_MARKER"), str(os.getpid())


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def mark():
    # A link, since a full disk takes no file's content; it stands for whoever made it.
    while True:
        try:
            os.symlink(me, marker)
            return
        except FileExistsError:
            pass
        with suppress(FileNotFoundError):
            other = os.readlink(marker)
            if alive(other):
                with suppress(FileExistsError):
                    os.symlink(f"{other} and {me}", marker + "-twice")
            os.unlink(marker)


if marker:
    mark()
try:
    run_migrations(target_metadata=metadata)
finally:
    if marker:
        with suppress(FileNotFoundError):
            os.unlink(marker)
"""


def make_race(path: Path, revisions: int) -> Project:
    """A project whose revisions each make a table, fill it, and write themselves down."""
    project = make_project(path)
    project.write("migrations/env.py", _ENV_PY)
    for position in range(1, revisions + 1):
        name = f"r{position}"
        body = _EACH.format(name=name, rows=40 * position)
        project.revision(
            name,
            f"r{position - 1}" if position > 1 else None,
            _FIRST + body if position == 1 else body,
        )
    return project


def dump(database: Path) -> Dump:
    """Schema and rows, as SQL; nothing for a file that is absent. Raises `sqlite3.Error`."""
    if not os.path.lexists(database):
        return ()
    connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=20)
    try:
        if connection.execute("PRAGMA integrity_check").fetchall() != [("ok",)]:
            raise sqlite3.DatabaseError("the database is damaged")
        return tuple(line for line in connection.iterdump() if line not in _FRAME)
    finally:
        connection.close()


def applied(database: Path) -> list[str]:
    """The revisions in the order in which they wrote themselves down."""
    connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=20)
    try:
        rows = connection.execute("SELECT revision FROM applied_log ORDER BY position").fetchall()
    finally:
        connection.close()
    return [row[0] for row in rows]


_FRAME: Final = ("BEGIN TRANSACTION;", "COMMIT;")
