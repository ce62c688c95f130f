"""SQLite: a file, of which there is one writer at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from orchestrator.databases import sqlite_errors
from orchestrator.databases.base import Database, VersionRows
from orchestrator.databases.marks import TABLE
from orchestrator.databases.sqlite_file import file_of, identity, other_names, starts_at_home
from orchestrator.databases.url import EXAMPLE, redact, unreadable_url
from orchestrator.errors import DENIED, ConfigurationError, DatabaseUnavailable
from orchestrator.results import Holder, Mark

_TRY_SECONDS: Final = 0.1


class SQLite(Database):
    """A SQLite file. Databases in memory are refused: no other connection would see them."""

    alters_by_copy = True

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        if url.username or url.password or url.host or url.port:
            raise ConfigurationError(
                f"The database URL {redact(url)} names a host or a user, which SQLite does not "
                "have. A relative file has three slashes, sqlite:///app.db, an absolute one four.",
                setting="database_url",
            )
        try:
            file = file_of(url)
        except ValueError:  # of a `file:` URI
            raise unreadable_url(url) from None
        if file is not None and "\0" in str(file):
            raise unreadable_url(url)
        if file is None:
            raise ConfigurationError(
                f"The database URL {redact(url)} names a SQLite database in memory: no other "
                "process, and not even another connection, would see what was migrated. "
                f"Use a file, such as {EXAMPLE}.",
                setting="database_url",
            )
        if starts_at_home(url):
            raise ConfigurationError(
                f"The database URL {redact(url)} begins with `~`, which neither SQLite nor "
                "SQLAlchemy expands: they would make a directory of that name. Write the path in "
                "full, with four slashes.",
                setting="database_url",
            )
        self._file = file

    @cached_property
    def identity(self) -> str:
        """The real path: links to the file lead to the same database."""
        return identity(self._file)

    @property
    def file(self) -> Path:
        """The absolute path, with links as they are written."""
        return self._file

    @property
    def synchronous_url(self) -> URL:
        """The same file by Python's own driver."""
        return self.url.set(drivername="sqlite")

    def exists(self) -> bool:
        """Whether something has the file's name, a link that leads nowhere, too."""
        return os.path.lexists(self._file)

    def prepare(self) -> str | None:
        """Make the directories above the file."""
        directory = os.path.dirname(os.path.realpath(self._file))
        if os.path.isdir(directory):
            return None
        try:
            os.makedirs(directory, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The directory of the database {self.shown_url} cannot be made: "
                f"{error.strerror}. Nothing was changed.",
                setting="database_url",
                denied=error.errno in DENIED,
            ) from error
        return f"The directory {directory} was not there, and was made for a new database."

    def discard_empty(self) -> None:
        """Take away the file, unless somebody has written to it or is about to."""
        with suppress(DatabaseUnavailable, DBAPIError, OSError), self.connect() as connection:
            connection.exec_driver_sql("BEGIN EXCLUSIVE")
            if os.path.getsize(self._file) == 0:
                os.unlink(self._file)

    def scratch_url(self, directory: Path) -> str:
        """A file by the same driver."""
        made = URL.create(self.url.drivername, database=str(directory / "scratch.db"))
        return made.render_as_string()

    def drop(self) -> None:
        """Remove the file, and what SQLite keeps beside it."""
        for suffix in ("", "-journal", "-wal", "-shm"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection to a file that exists; opening never makes it.

        It is opened for reading and writing, since one that can only read fails on the journal
        that a killed writer leaves (https://www.sqlite.org/uri.html). `busy` is set where a
        writer was in the way for 0.1 s.
        """
        try:
            with _engine(str(self._file)).connect() as connection:
                yield connection
        except DBAPIError as error:
            told = self.explain(error) or sqlite_errors.unusable(error, self)
            # Another process may take away an empty file, whose migration it could not begin with.
            told.busy = told.busy or not self.exists()
            raise told from error

    def begin_at_once(self, engine: Engine) -> bool:
        """See https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable."""

        @event.listens_for(engine, "connect")
        def _leave_it_to_us(driver: Any, _: Any) -> None:
            driver.isolation_level = None

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
                connection.exec_driver_sql("BEGIN IMMEDIATE")

        return True

    @contextmanager
    def watched(self) -> Iterator[Callable[[], int | None]]:
        """Ask for `data_version` (https://www.sqlite.org/pragma.html#pragma_data_version)."""
        with self.connect() as connection:

            def version() -> int | None:
                try:
                    found: int = connection.exec_driver_sql("PRAGMA data_version").scalar_one()
                except DBAPIError:
                    return None  # a writer may be in the way
                return found

            yield version

    def dangers(self) -> tuple[str, ...]:
        """A file with several names, or with one that is a path elsewhere.

        Of the first see https://www.sqlite.org/howtocorrupt.html, 2.5.
        """
        found = []
        if (how := other_names(self._file)) is not None:
            found.append(
                f"The file of the database {self.shown_url} {how}. Who opens it by another name "
                "has another lock, and cannot undo what a process that was killed left "
                "half-written. Give it one name, and mount the directory instead of the file."
            )
        if os.sep == "/" and "\\" in self._file.name:
            found.append(
                f"The database {self.shown_url} is named like a path of Windows. On this system "
                f"that is the name of one file in {self._file.parent}."
            )
        return tuple(found)

    def look(self, connection: Connection) -> None:
        """The first page, which says whether the file is a database."""
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1")

    def version_rows(
        self, connection: Connection, table: str, schema: str | None
    ) -> VersionRows | None:
        """One small query."""
        query = self.version_query(connection, table, schema)
        try:
            return VersionRows.of(connection.exec_driver_sql(query))
        except DBAPIError:
            # No such table, or not a database at all: the second question tells them apart.
            connection.rollback()
            if not sa.inspect(connection).has_table(table, schema=schema):
                return None
        # A leader may have committed between the questions; what else was wrong is so again.
        return VersionRows.of(connection.exec_driver_sql(query))

    def _marked(self, connection: Connection, schema: str | None) -> str:
        names = connection.dialect.identifier_preparer
        of = f"{names.quote_schema(schema)}." if schema is not None else ""
        return f"(SELECT count(*) FROM {of}sqlite_master WHERE name = '{TABLE}')"  # noqa: S608

    def mark(self, connection: Connection, schema: str | None, version_table: str) -> Mark | None:
        """Also beside a leader that drops its table at this moment."""
        try:
            return super().mark(connection, schema, version_table)
        except DBAPIError:
            if not self.is_marked(connection, schema):
                return None
            raise

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[bool]:
        """As the one writer."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield True
        connection.exec_driver_sql("COMMIT")

    def tables(
        self, connection: Connection, version_table: str, schema: str | None
    ) -> tuple[str, ...]:
        """Without those that SQLite keeps for itself, which SQLAlchemy leaves out."""
        inspector = sa.inspect(connection)
        found = set(inspector.get_table_names())
        if schema is not None:
            found.update(inspector.get_table_names(schema=schema))
        return tuple(sorted(found - {version_table, TABLE}))

    def same_as(self, connection: Connection) -> bool:
        """Whether it has the same file open."""
        file = file_of(connection.engine.url)
        return file is not None and identity(file) == self.identity

    def shares(self, schema: str | None) -> bool:
        """Any other schema is an attached file, and that is the connection's own."""
        return schema in (None, "main")

    def explain(self, error: BaseException) -> DatabaseUnavailable | None:
        """By SQLite's result codes."""
        return sqlite_errors.explain(error, self)

    def advice(self, error: BaseException) -> str | None:
        """Changes of a table that SQLite has no statement for."""
        return sqlite_errors.advice(error)

    def lock(self, holder: Callable[[], Holder], warn: Callable[[str], object]) -> None:
        """None: the lock beside the file is all there is."""
        del holder, warn

    @classmethod
    def made_by(
        cls, dialect: Dialect, arguments: Sequence[Any], parameters: Mapping[str, Any]
    ) -> URL | None:
        """The URL of a file that does not exist: to open it would make it."""
        if not arguments:
            return None
        name = os.fsdecode(arguments[0])
        url = URL.create(f"sqlite+{dialect.driver}", database=name)
        if parameters.get("uri"):
            path, _, query = name.partition("?")
            url = url.set(database=path).update_query_string(query)
            url = url.update_query_dict({"uri": "true"})
        file = file_of(url)
        return None if file is None or os.path.lexists(file) else url

    @classmethod
    def empty_in_place(
        cls, dialect: Dialect, arguments: Sequence[Any], parameters: Mapping[str, Any]
    ) -> Any:
        """A connection to a database in memory."""
        others = {name: value for name, value in parameters.items() if name != "uri"}
        return dialect.connect(":memory:", *arguments[1:], **others)


@lru_cache(maxsize=8)
def _engine(file: str) -> Engine:
    """Keeps no connection, only what SQLAlchemy found out about the driver."""
    own = URL.create(
        "sqlite",
        database=f"file:{quote(os.fsencode(file))}",
        query={
            "mode": "rw",
            "uri": "true",
            "timeout": str(_TRY_SECONDS),
            # It is closed at the end of a pass, whichever thread `env.py` carried that to.
            "check_same_thread": "false",
        },
    )
    return create_engine(own, poolclass=NullPool, isolation_level="AUTOCOMMIT")
