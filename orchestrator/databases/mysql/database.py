"""MariaDB and MySQL: servers whose DDL commits at once, with locks of a session by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from functools import cached_property
from typing import Any, Final

from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.databases.base import Database, VersionRows
from orchestrator.databases.blanks import blanked_of_mysql
from orchestrator.databases.marks import TABLE
from orchestrator.databases.mysql import catalogue, driver, errors
from orchestrator.databases.mysql.lock import MySQLLock
from orchestrator.databases.mysql.locks import FENCE, HOLDER
from orchestrator.databases.quoting import told
from orchestrator.databases.telling import read_told
from orchestrator.errors import ConfigurationError, DatabaseUnavailable
from orchestrator.results import Blocker, Holder, Mark

_PORT: Final = 3306
_KINDS: Final = ("mysql", "mariadb")


class MySQL(Database):
    """A database of a MariaDB or a MySQL server."""

    divides = (
        "A change of tables commits at once here: a revision that fails, or is stopped in its "
        "middle, is left half done, and the database is then told to be `interrupted`."
    )

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        driver.driver()  # that there is none is told before anything else
        if not url.database:
            raise ConfigurationError(
                f"The URL {self.shown_url} names a server, and no database of it. Nothing was "
                "changed. Put the name of the database behind the last slash.",
                setting="database_url",
            )

    @cached_property
    def identity(self) -> str:
        """Server and name, as they are written: only a server could tell more."""
        socket = self.url.query.get("unix_socket")
        host = f"{(self.url.host or 'localhost').lower()}:{self.url.port or _PORT}"
        return f"mysql:{socket or host}/{self.url.database}"

    @property
    def synchronous_url(self) -> URL:
        """The same database by our own driver."""
        return driver.own_url(self.url)

    def exists(self) -> bool:
        """True: one that is not there cannot be made by connecting."""
        return True

    def make(self) -> bool:
        """By `CREATE DATABASE`, on a connection to none of the server's."""
        try:
            self._beside("CREATE DATABASE {}")
        except DBAPIError as error:
            if errors.number(error) == errors.EXISTS:
                return False
            raise self._refused(error) from error
        return True

    def drop(self) -> None:
        """With all that is in it."""
        self._beside("DROP DATABASE IF EXISTS {}")

    def _beside(self, statement: str) -> None:
        with driver.engine(self.url.set(database="")).connect() as connection:
            quote = connection.dialect.identifier_preparer.quote_identifier
            connection.exec_driver_sql(statement.format(quote(self.url.database or "")))

    def _refused(self, error: DBAPIError) -> DatabaseUnavailable:
        if error.statement is None:
            return errors.refused(error, self)
        return DatabaseUnavailable(
            f"The database {self.shown_url} could not be made: "
            f"{told(error.orig or error, self.secrets)}",
            url=self.shown_url,
        )

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection by our own driver, one round trip after the server's greeting."""
        try:
            connection = driver.engine(self.url).connect()
        except DBAPIError as error:
            raise errors.refused(error, self) from error
        try:
            yield connection
        except DBAPIError as error:
            unavailable = self.explain_own(error)
            if unavailable is None:
                raise
            raise unavailable from error
        finally:
            with suppress(DBAPIError):  # what was asked is answered, and nothing is open
                connection.close()

    def look(self, connection: Connection) -> None:
        """Ask for nothing."""
        connection.exec_driver_sql("SELECT 1")

    def version_rows(
        self, connection: Connection, table: str, schema: str | None
    ) -> VersionRows | None:
        """By the one query."""
        query = self.version_query(connection, table, schema)
        try:
            return VersionRows.of(connection.exec_driver_sql(query))
        except DBAPIError as error:
            code = errors.number(error)
            if code in errors.NO_TABLE:
                return None
            if code in errors.NO_RIGHT:
                raise DatabaseUnavailable(
                    f"This user may not read the version table {schema + '.' if schema else ''}"
                    f"{table} of {self.shown_url}. Let an administrator `GRANT ALL ON` that "
                    "database to this user, or name another one in the URL.",
                    url=self.shown_url,
                ) from error
            raise

    def _marked(self, connection: Connection, schema: str | None) -> str:
        literal = (schema or "").replace("\\", "\\\\").replace("'", "''").replace("%", "%%")
        named = f"'{literal}'" if schema is not None else "DATABASE()"
        return (
            "EXISTS (SELECT 1 FROM information_schema.tables "  # noqa: S608 - quoted
            f"WHERE table_schema = {named} AND table_name = '{TABLE}')"
        )

    def tables(
        self, connection: Connection, version_table: str, schema: str | None
    ) -> tuple[str, ...]:
        """Without views and sequences."""
        given = {"schema": schema or "", "version_table": version_table}
        return tuple(sorted(set(connection.execute(catalogue.TABLES, given).scalars())))

    def lacking(
        self, connection: Connection, tables: Sequence[tuple[str | None, str]]
    ) -> tuple[str, ...]:
        """By a query for each."""
        return tuple(
            f"{schema}.{name}" if schema else name
            for schema, name in tables
            if not connection.execute(catalogue.HAS, {"schema": schema, "name": name}).scalar_one()
        )

    def default_schema(self, connection: Connection, table: str) -> str:
        """The database that the connection uses: `env.py` may have chosen another."""
        del table
        found = connection.exec_driver_sql("SELECT DATABASE()").scalar_one()
        if found is None:
            raise ConfigurationError(
                f"env.py's connection to the server of {self.shown_url} uses no database. Nothing "
                "was changed. Name one in its URL.",
                setting="database_url",
            )
        return str(found)

    def same_as(self, connection: Connection) -> bool:
        """Whether the server shows it a lock that is held here, however both spell the URL."""
        url = connection.engine.url
        if url.get_backend_name() not in _KINDS:
            return False
        if url.database and type(self)(url).identity == self.identity:
            return True
        name = f"orchestrator {random.getrandbits(64):x}"
        with self.connect() as own:
            own.exec_driver_sql(f"SELECT GET_LOCK('{name}', 0)")
            seen = connection.exec_driver_sql(f"SELECT IS_USED_LOCK('{name}')").scalar_one()
        return seen is not None and url.database in (None, self.url.database)

    def explain(self, error: BaseException) -> DatabaseUnavailable | None:
        """By the numbers of errors, and by what drivers say of a connection that has ended."""
        return errors.explain(error, self)

    def leader(self, connection: Connection) -> tuple[bool, Holder | None]:
        """Who holds the lock, or works without it."""
        number, info = connection.exec_driver_sql(HOLDER).one()
        return number is not None, read_told(info) if info else None

    def session(self, connection: Connection) -> int:
        """The server's number of the connection."""
        return driver.server_id(connection)

    def mark(self, connection: Connection, schema: str | None, version_table: str) -> Mark | None:
        """Also beside a leader that makes or drops its table at this moment."""
        try:
            return super().mark(connection, schema, version_table)
        except DBAPIError as error:
            if errors.number(error) in (*errors.NO_TABLE, errors.CHANGED):
                return None
            raise

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[bool]:
        """By the fence; who reads the table of marks is not waited for."""
        connection.exec_driver_sql("SET SESSION lock_wait_timeout = 1")
        taken = connection.exec_driver_sql(f"SELECT GET_LOCK({FENCE}, 0)").scalar_one()
        yield bool(taken)
        connection.exec_driver_sql(f"DO RELEASE_LOCK({FENCE})")

    def end_session(self, session: object) -> str:
        """By `KILL`."""
        return f"KILL {session}"

    def cancel(self, session: int) -> bool:
        """By `KILL QUERY`, on a connection of our own, which is tried for two seconds."""
        try:
            with driver.engine(self.url, connect_timeout=2).connect() as connection:
                connection.exec_driver_sql(f"KILL QUERY {session:d}")
                return True
        except (DBAPIError, ConfigurationError):
            return False

    def blockers(self, connection: Connection, session: int) -> tuple[Blocker, ...]:
        """Who holds the table, where the server keeps account of that; else who may.

        The first where `performance_schema` is on, and counts such locks. Else all who are in a
        transaction: that is told only to users with the right `PROCESS`.
        """
        given = {"session": session}
        found = connection.execute(catalogue.HOLDERS, given).all()
        if not found:
            found = connection.execute(catalogue.TRANSACTIONS, given).all()
        return tuple(
            Blocker(
                pid=number,
                user=user,
                state=str(command).lower(),
                since=since.replace(tzinfo=UTC) if since is not None else None,
                query=self.blanked(info) if info else None,
            )
            for number, user, command, since, info in found
        )

    def blanked(self, statement: str) -> str:
        """Texts stand in double quotes here, too."""
        return blanked_of_mysql(statement)

    def advice(self, error: BaseException) -> str | None:
        """What to do about a right that is lacking."""
        if errors.number(error) not in errors.NO_RIGHT:
            return None
        return (
            "Let an administrator give this user what is lacking, by `GRANT ALL ON database.* TO "
            "user`; or name another user in the URL. Then start again."
        )

    def lock(self, holder: Callable[[], Holder], warn: Callable[[str], Any]) -> MySQLLock:
        """`GET_LOCK`, on a connection of its own."""
        return MySQLLock(self, holder, warn)
