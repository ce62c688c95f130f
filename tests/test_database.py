"""Connections of our own: they make nothing, and tell in words why they cannot be had."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from sqlalchemy.engine import URL, make_url

from orchestrator import database
from orchestrator.errors import DatabaseUnavailable, Interrupted


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A SQLite database with one table."""
    path = tmp_path / "app.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (id INTEGER)")
    connection.commit()
    connection.close()
    return path


def ask(file: Path, statement: str = "SELECT count(*) FROM t") -> object:
    with database.connect(URL.create("sqlite", database=str(file))) as connection:
        return connection.exec_driver_sql(statement).scalar()


@pytest.mark.parametrize(
    "name", ["app.db", "with space.db", "per%20cent.db", "a?b.db", "a#b.db", "ünïcode.db", "a%b.db"]
)
def test_any_file_name_is_opened(file: Path, name: str) -> None:
    """The name goes into a URI, where some characters would mean something else."""
    other = file.with_name(name)
    file.rename(other)
    assert ask(other) == 0
    assert [path.name for path in file.parent.iterdir()] == [name]


def test_a_file_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """Opening raises, and leaves the directory as it was."""
    with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
        ask(tmp_path / "app.db")
    assert not list(tmp_path.iterdir())


def test_what_is_no_database_is_told(tmp_path: Path) -> None:
    """Another file, and a directory, are named for what they are."""
    (tmp_path / "text").write_text("this is no database, but a text of more than a page" * 100)
    (tmp_path / "directory").mkdir()
    with pytest.raises(DatabaseUnavailable, match="not a SQLite database") as text:
        ask(tmp_path / "text")
    with pytest.raises(DatabaseUnavailable, match="is a directory") as directory:
        ask(tmp_path / "directory", "SELECT 1")
    assert not text.value.busy
    assert not directory.value.busy


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write every file")
def test_a_file_without_permission_is_told(file: Path) -> None:
    """The reason is the permission, not the database."""
    file.chmod(0)
    with pytest.raises(DatabaseUnavailable, match="no permission"):
        ask(file)


def test_a_writer_in_the_way_is_busy(file: Path) -> None:
    """An exclusive lock of another connection is told as busy, within a moment."""
    writer = sqlite3.connect(file)
    writer.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(DatabaseUnavailable) as raised:
            ask(file)
    finally:
        writer.close()
    assert raised.value.busy
    assert ask(file) == 0


def test_the_journal_of_a_killed_writer_is_rolled_back(file: Path, tmp_path: Path) -> None:
    """A hot journal needs a connection that may write: the database is then as before."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - killed
        writer = sqlite3.connect(file, isolation_level=None)
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE half (text)")
        for _ in range(200):
            writer.execute("INSERT INTO half VALUES (?)", ("x" * 4000,))
        os.kill(os.getpid(), 9)
    os.waitpid(pid, 0)
    assert file.with_name("app.db-journal").stat().st_size > 0
    assert ask(file, "SELECT count(*) FROM sqlite_master WHERE name = 'half'") == 0


def test_nothing_of_a_connection_is_kept(file: Path) -> None:
    """A file that is replaced is seen anew: no pool keeps the old one open."""
    assert ask(file) == 0
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (id INTEGER)")
    connection.execute("INSERT INTO t VALUES (1)")
    connection.commit()
    connection.close()
    assert ask(file) == 1


def test_a_dangling_link_is_there(tmp_path: Path) -> None:
    """Something that has the file's name is no absent database."""
    (tmp_path / "app.db").symlink_to(tmp_path / "nowhere")
    assert database.exists(make_url(f"sqlite:///{tmp_path}/app.db"))
    assert not database.exists(make_url(f"sqlite:///{tmp_path}/other.db"))


def unavailable(*, busy: bool) -> DatabaseUnavailable:
    return DatabaseUnavailable("x", url="sqlite:///x", busy=busy)


def test_a_busy_database_is_asked_again() -> None:
    """Patience ends with the answer."""
    tries: list[int] = []

    def answer() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise unavailable(busy=True)
        return "answer"

    found = database.patiently(answer, timeout_seconds=30, interrupted=lambda: None)
    assert (found, len(tries)) == ("answer", 3)


def test_patience_has_a_deadline() -> None:
    """A database that stays busy is an error that tells how long it was waited for."""

    def refuse() -> None:
        raise unavailable(busy=True)

    with pytest.raises(DatabaseUnavailable) as raised:
        database.patiently(refuse, timeout_seconds=0.01, interrupted=lambda: None)
    assert raised.value.busy
    assert raised.value.waited_seconds >= 0.01


def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    """A file that is no database is not asked twice."""
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise unavailable(busy=False)

    with pytest.raises(DatabaseUnavailable):
        database.patiently(refuse, timeout_seconds=30, interrupted=lambda: None)
    assert len(tries) == 1


def test_patience_can_be_interrupted() -> None:
    """Between tries it is asked whether the answer is still wanted."""

    def refuse() -> None:
        raise unavailable(busy=True)

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        database.patiently(refuse, timeout_seconds=30, interrupted=interrupt)
