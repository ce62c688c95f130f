"""Connections of our own: they make nothing, and tell in words why they cannot be had."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from orchestrator.databases.sqlite import SQLite
from orchestrator.databases.sqlite_file import file_of
from orchestrator.errors import DatabaseUnavailable


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
    with SQLite(URL.create("sqlite", database=str(file))).connect() as connection:
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
    with pytest.raises(DatabaseUnavailable, match="cannot be opened") as caught:
        ask(tmp_path / "app.db")
    assert not list(tmp_path.iterdir())
    assert caught.value.busy  # it was there a moment ago: whoever asks looks again


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
    assert SQLite(make_url(f"sqlite:///{tmp_path}/app.db")).exists()
    assert not SQLite(make_url(f"sqlite:///{tmp_path}/other.db")).exists()


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("sqlite:///app.db", "{cwd}/app.db"),
        ("sqlite:///var/../app.db", "{cwd}/app.db"),
        ("sqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite+aiosqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite:////srv/a@b:c 100%.db", "/srv/a@b:c 100%.db"),
        ("sqlite:///file:app.db?uri=true", "{cwd}/app.db"),
        ("sqlite:///file:/srv/app.db?uri=true", "/srv/app.db"),
        ("sqlite:///file:///srv/app.db?uri=true", "/srv/app.db"),
        ("sqlite:///file:///srv/my%2520app.db?uri=true&mode=rw", "/srv/my%20app.db"),
        ("sqlite:///file:app.db", "{cwd}/file:app.db"),
        ("sqlite:///file:app.db?uri=false", "{cwd}/file:app.db"),
    ],
)
def test_the_file_of_a_sqlite_url(text: str, file: str) -> None:
    """Like the driver: relative to the working directory; a `file:` URI only with `uri=true`."""
    expected = file.format(cwd=Path.cwd())
    # SQLAlchemy leaves the database part of a URL as it is.
    found = file_of(make_url(text))

    assert found == Path(expected) or found == Path(expected.replace("%20", " "))


class TestCommitDuringTheProbe:
    """The probe asks twice where there is no version table, and a leader may commit meanwhile."""

    def test_the_rows_are_seen(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A table that is there at the second question is read, and is no error."""
        leader = sqlite3.connect(tmp_path / "app.db", isolation_level=None)
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'app.db'}", poolclass=sa.NullPool)
        inspect = sa.inspect

        def commit_and_inspect(connection: sa.Connection) -> Any:
            leader.execute("CREATE TABLE alembic_version (version_num TEXT)")
            leader.execute("INSERT INTO alembic_version VALUES ('r1')")
            return inspect(connection)

        monkeypatch.setattr("orchestrator.databases.sqlite.sa.inspect", commit_and_inspect)
        with engine.connect() as connection:
            rows = SQLite(engine.url).version_rows(connection, "alembic_version", None)
            assert rows == ("r1",)
        leader.close()


def test_a_damaged_file_is_told_as_damaged(file: Path) -> None:
    """Nothing is said to be intact, and what to do is restoring it."""
    with file.open("r+b") as damaged:
        damaged.seek(100)  # the header of the first page's tree
        damaged.write(b"\xff" * 8)
    with pytest.raises(DatabaseUnavailable, match=r"is damaged: .* Restore it") as error:
        ask(file, "SELECT * FROM t")
    assert error.value.damaged
    assert not error.value.busy
    assert "changed" not in str(error.value)
