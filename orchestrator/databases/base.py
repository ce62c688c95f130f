"""The seam between databases: all that a run asks of one, whatever its kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Dialect, Engine

from orchestrator.databases import marks
from orchestrator.databases.blanks import blanked
from orchestrator.databases.secrets import Secrets
from orchestrator.databases.url import redact, secrets_of
from orchestrator.errors import DatabaseUnavailable
from orchestrator.locks.base import Lock
from orchestrator.results import Blocker, Holder, Mark, Progress


class Database(ABC):
    """One database, named by its URL. Making one opens nothing.

    A new kind is a class of this in a file of its own, and a row in `DATABASES`. Raises
    `ConfigurationError` for a URL that cannot be used.
    """

    alters_by_copy: ClassVar[bool] = False
    """Whether most changes of a table need a copy of it, which Alembic calls batch mode."""

    divides: ClassVar[str | None] = None
    """What to say before work whose parts are committed one by one; None where it is whole."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.one_node = False
        """Whether all that write to a cluster reach the same node of it, as somebody has said."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """The same text for every URL of this database, whatever its driver and its user."""

    @property
    def view(self) -> tuple[str, ...]:
        """What of the URL decides, besides the database, what a connection finds in it."""
        return ()

    @cached_property
    def shown_url(self) -> str:
        """The URL without its secrets."""
        return redact(self.url)

    @cached_property
    def secrets(self) -> Secrets:
        """What must not be told of the URL, in whatever text."""
        return secrets_of(self.url)

    @property
    def synchronous_url(self) -> URL:
        """The same database by a synchronous driver, for connections of our own."""
        return self.url

    @property
    def file(self) -> Path | None:
        """The file that is the database; None where a server has it."""
        return None

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a database at all, so that connecting does not make one."""

    def prepare(self) -> str | None:
        """Make what has to be there before the database can be made; says what was made, if so.

        Raises `ConfigurationError` where it cannot be made.
        """
        return None

    def discard_empty(self) -> None:  # noqa: B027 - most make nothing
        """Take away what a try that failed has made, if there is nothing in it.

        Also from under somebody who opened it without waiting for the migration.
        """

    def scratch_url(self, directory: Path) -> str | None:
        """The URL, with its secrets, of a database in this directory that `env.py` can take.

        None where the database cannot be a file.
        """
        del directory
        return None

    def make(self) -> bool:
        """Make an empty database, if connecting does not; False where there is one already."""
        return not self.exists()

    def drop(self) -> None:
        """Take the database away, with all that is in it: only one of our own making."""
        raise NotImplementedError

    @abstractmethod
    def connect(self) -> AbstractContextManager[Connection]:
        """A connection of our own, in autocommit, for the probe and the proof.

        Closed at the end of the block. Raises `DatabaseUnavailable`, in the block, too.
        """

    def begin_at_once(self, engine: Engine) -> bool:
        """Let the transactions of an engine begin where they are said to; whether that is new.

        For drivers that begin late, and have a change of tables outside of any transaction.
        """
        del engine
        return False

    @contextmanager
    def watched(self) -> Iterator[Callable[[], int | None]]:
        """Ask, in the block, for a number that is another one when others have committed.

        None where it cannot be told. Raises `DatabaseUnavailable`.
        """
        yield lambda: None

    def dangers(self) -> tuple[str, ...]:
        """What about the database itself takes away from what is promised, in words."""
        return ()

    def defects(self, connection: Connection) -> tuple[str, ...]:
        """What is in the database that does not work as whoever made it meant, in words."""
        del connection
        return ()

    @abstractmethod
    def look(self, connection: Connection) -> None:
        """Read anything, so that what cannot be read is found out, in the block of `connect`."""

    def version_query(self, connection: Connection, table: str, schema: str | None) -> str:
        """What `version_rows` asks, written out.

        SQLAlchemy takes longer to build it than a database to answer it.
        """
        names = connection.dialect.identifier_preparer
        qualified = names.quote(table)
        if schema is not None:
            qualified = f"{names.quote_schema(schema)}.{qualified}"
        marked = self._marked(connection, schema)
        return f"SELECT version_num, {marked} FROM {qualified}"  # noqa: S608 - quoted

    @abstractmethod
    def _marked(self, connection: Connection, schema: str | None) -> str:
        """An expression for whether there is a mark's table, in the same question."""

    def marked_query(self, connection: Connection, schema: str | None) -> str:
        """What asks whether there is a table of marks, written out."""
        return f"SELECT {self._marked(connection, schema)}"

    def is_marked(self, connection: Connection, schema: str | None) -> bool:
        """Whether there is a table of marks, perhaps without one."""
        found = connection.exec_driver_sql(self.marked_query(connection, schema)).scalar_one()
        return bool(found)

    def mark(self, connection: Connection, schema: str | None, version_table: str) -> Mark | None:
        """The mark that was left of a revision which has not ended, or has just ended.

        None also where the table has gone meanwhile.
        """
        return marks.read(connection, schema, version_table)

    def clear_mark(
        self,
        connection: Connection,
        schema: str | None,
        version_table: str,
        *,
        is_over: Callable[[Mark], bool],
    ) -> None:
        """Take a mark that `is_over` away, unless somebody is at work, who will do it."""
        with self.alone(connection) as alone:
            if alone and self.is_marked(connection, schema):
                marks.clear(connection, schema, version_table, is_over=is_over)

    @abstractmethod
    def alone(self, connection: Connection) -> AbstractContextManager[bool]:
        """Whether nobody is at work, and nobody begins in the block; of a connection of our own."""

    @abstractmethod
    def version_rows(
        self, connection: Connection, table: str, schema: str | None
    ) -> VersionRows | None:
        """The version rows, by one round trip; None where there is no table."""

    @abstractmethod
    def tables(
        self, connection: Connection, version_table: str, schema: str | None
    ) -> tuple[str, ...]:
        """The tables that count, sorted: of the default schema and of the version table's.

        Not the version table itself, nor those that the database keeps for itself.
        """

    def lacking(
        self, connection: Connection, tables: Sequence[tuple[str | None, str]]
    ) -> tuple[str, ...]:
        """Those of these tables, of a schema and a name each, that are not there."""
        looked_for = [(schema, name) for schema, name in tables if self.shares(schema)]
        inspector = sa.inspect(connection)
        there = {
            (schema, name)
            for schema in {schema for schema, _ in looked_for}
            for name in inspector.get_table_names(schema)
        }
        return tuple(
            f"{schema}.{name}" if schema else name
            for schema, name in looked_for
            if (schema, name) not in there
        )

    def role(self, connection: Connection) -> str | None:
        """Whom the connection acts as; None where that is the user who has connected."""
        del connection
        return None

    def act_as(self, connection: Connection, role: str | None) -> None:  # noqa: B027 - most have none
        """Act as `role` from now on, if that is not None."""

    @abstractmethod
    def same_as(self, connection: Connection) -> bool:
        """Whether a connection of `env.py`'s is one to this database."""

    def shares(self, schema: str | None) -> bool:
        """Whether other connections see this schema, so that what is in it can be proved."""
        del schema
        return True

    @abstractmethod
    def explain(self, error: BaseException) -> DatabaseUnavailable | None:
        """Why the database could not be used, in words; None for any other kind of error.

        `busy` says whether another one's work was in the way, so that trying again helps. What is
        intact is not said: that is known to who knows what was committed.
        """

    def is_hidden(self, connection: Connection, table: str, schema: str | None) -> bool:
        """Whether connections of our own may not read a table that `env.py`'s may."""
        del connection, table, schema
        return False

    def end_session(self, session: object) -> str:
        """The statement by which somebody ends a session of the server's."""
        return f"SELECT pg_terminate_backend({session})"

    def explain_own(self, error: BaseException) -> DatabaseUnavailable | None:
        """The same of a connection of our own, on which nothing should be waited for."""
        return self.explain(error)

    def blanked(self, statement: str) -> str:
        """The beginning of a statement, with `?` for its literals, as it may be shown."""
        return blanked(statement)

    def advice(self, error: BaseException) -> str | None:
        """What to do about what this kind of database cannot do; None where it is not that."""
        del error
        return None

    def default_schema(self, connection: Connection, table: str) -> str | None:
        """The schema in which `env.py`'s connection finds a table, or would make it.

        None where every connection finds the same one. Raises `ConfigurationError` if none is.
        """
        del connection, table
        return None

    def leader(self, connection: Connection) -> tuple[bool, Holder | None]:
        """Whether somebody leads, on whatever host, and who, as far as the database tells."""
        del connection
        return False, None

    def session(self, connection: Connection) -> int | None:
        """The number by which a server knows a connection; None where there is no server."""
        del connection
        return None

    def is_at_work(self, connection: Connection, session: int) -> bool:
        """Whether a session, whose client may have gone, still has a pass's work in hand."""
        del connection, session
        return False

    def cancel(self, session: int) -> bool:
        """End the statement that a session of the server's is at; whether that was done."""
        del session
        return False

    def blockers(self, connection: Connection, session: int) -> tuple[Blocker, ...]:
        """Who keeps a session waiting for a lock: asked on a connection of our own."""
        del connection, session
        return ()

    def progress(self, connection: Connection, session: int) -> Progress | None:
        """How far the server is with what a session is at, where it tells."""
        del connection, session
        return None

    @abstractmethod
    def lock(self, holder: Callable[[], Holder], warn: Callable[[str], object]) -> Lock | None:
        """The database's own lock, not held; None if it has none.

        `holder` tells of the run, and what it is at; `warn` is told, in any thread, that the lock
        was lost while it was held, and the like.
        """

    @classmethod
    def made_by(
        cls, dialect: Dialect, arguments: Sequence[Any], parameters: Mapping[str, Any]
    ) -> URL | None:
        """The URL of the database that connecting so would make; None where none is made."""
        del dialect, arguments, parameters
        return None

    @classmethod
    def empty_in_place(
        cls, dialect: Dialect, arguments: Sequence[Any], parameters: Mapping[str, Any]
    ) -> Any:
        """A connection of the driver to an empty database, in place of one that it would make.

        Nobody else sees it, and it ends with the connection. Of kinds that `made_by` knows.
        """
        raise NotImplementedError


class VersionRows(tuple[str, ...]):  # noqa: SLOT001 - a tuple cannot have slots with a value
    """The version rows as `as_versions` has them; `is_marked` where a mark may be left, too."""

    is_marked: bool = False

    @classmethod
    def of(cls, rows: Iterable[Sequence[Any]]) -> Self:
        """Of rows of `version_query`."""
        found = list(rows)
        made = cls(as_versions(row[0] for row in found))
        made.is_marked = any(row[1] for row in found)
        return made


def as_versions(rows: Iterable[object]) -> tuple[str, ...]:
    """What stands in a version table, sorted.

    A NULL says nothing, as for Alembic. What is no text is shown as such: no script has it.
    """
    told = (
        row if isinstance(row, str) else f"{row!r} (no text)" for row in rows if row is not None
    )
    return tuple(sorted(told))
