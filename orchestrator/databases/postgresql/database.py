"""PostgreSQL: a server, with transactional DDL and advisory locks."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Final

from sqlalchemy.engine import URL, Connection
from sqlalchemy.exc import DBAPIError

from orchestrator.databases.base import Database, VersionRows
from orchestrator.databases.blanks import blanked
from orchestrator.databases.marks import TABLE
from orchestrator.databases.postgresql import catalogue, driver, errors
from orchestrator.databases.postgresql.holder import FENCE, HELD, HOLDER, NAMESPACE, read_holder
from orchestrator.databases.postgresql.lock import PostgreSQLLock
from orchestrator.databases.quoting import told
from orchestrator.errors import ConfigurationError, DatabaseUnavailable, by_setting
from orchestrator.results import Blocker, Holder, Mark, Progress

_PORT: Final = "5432"
_SAVEPOINT: Final = "orchestrator_look"


class PostgreSQL(Database):
    """A database of a PostgreSQL server, 14 or newer."""

    def __init__(self, url: URL) -> None:
        super().__init__(url)
        driver.driver()  # that there is none is told before anything else

    @cached_property
    def identity(self) -> str:
        """Servers and name, as they are written: only a server could tell more."""
        query = self.url.query
        hosts = [part for part in _texts(query.get("host")) for part in part.split(",")]
        if self.url.host:
            hosts = [f"{self.url.host}:{self.url.port or _PORT}"]
        elif not hosts:
            hosts = [os.environ.get("PGHOST", "")]
        port = next(iter(_texts(query.get("port"))), os.environ.get("PGPORT", _PORT))
        servers = sorted(_with_port(host.lower(), port) for host in hosts)
        service = "".join(f"service={name} " for name in _texts(query.get("service")))
        name = self.url.database or next(iter(_texts(query.get("dbname"))), "")
        name = name or os.environ.get("PGDATABASE", "") or self.url.username or ""
        return f"postgresql:{service}{','.join(servers)}/{name}"

    @property
    def view(self) -> tuple[str, ...]:
        """User and options: either may have a search path of its own."""
        options = _texts(self.url.query.get("options"))
        around = (os.environ.get("PGUSER", ""), os.environ.get("PGOPTIONS", ""))
        return (self.url.username or "", *options, *around)

    @property
    def synchronous_url(self) -> URL:
        """The same database by our own driver."""
        return driver.own_url(self.url)

    def exists(self) -> bool:
        """True: one that is not there cannot be made by connecting."""
        return True

    def make(self) -> bool:
        """By `CREATE DATABASE`, on a connection to the server's `postgres`."""
        try:
            self._beside("CREATE DATABASE {}")
        except DBAPIError as error:
            if errors.sqlstate(error) == errors.DUPLICATE:
                return False
            raise self._refused(error) from error
        return True

    def drop(self) -> None:
        """With all who are connected to it."""
        self._beside("DROP DATABASE IF EXISTS {} WITH (FORCE)")

    def _beside(self, statement: str) -> None:
        with driver.engine(self.url.set(database="postgres")).connect() as connection:
            quote = connection.dialect.identifier_preparer.quote_identifier
            connection.exec_driver_sql(statement.format(quote(self.url.database or "")))

    def _refused(self, error: DBAPIError) -> DatabaseUnavailable:
        if error.statement is None:
            return errors.refused(error, self)
        advice = (
            " Let an administrator `ALTER ROLE user CREATEDB`, or name another user."
            if errors.sqlstate(error) == errors.NO_RIGHT
            else ""
        )
        return DatabaseUnavailable(
            f"The database {self.shown_url} could not be made: "
            f"{told(error.orig or error, self.secrets).rstrip('.')}.{advice}",
            url=self.shown_url,
        )

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection by our own driver, one round trip after the server's greeting."""
        try:
            connection = driver.engine(self.url).connect()
        except DBAPIError as error:
            raise errors.refused(error, self) from error
        with connection:
            try:
                yield connection
            except DBAPIError as error:
                unavailable = self.explain_own(error)
                if unavailable is None:
                    raise
                raise unavailable from error

    def defects(self, connection: Connection) -> tuple[str, ...]:
        """Indexes that a `CONCURRENTLY` has left invalid."""
        if not connection.exec_driver_sql(catalogue.HAS_INVALID).scalar_one():
            return ()
        found = connection.exec_driver_sql(catalogue.INVALID).all()
        return tuple(
            f"The index {schema}.{index} of the table {table} is invalid: a CREATE INDEX "
            "CONCURRENTLY, or a REINDEX, did not come to its end. Nobody reads it, every write "
            "keeps it up, and `IF NOT EXISTS` skips it for ever. Drop it: "
            f'`DROP INDEX CONCURRENTLY "{schema}"."{index}"`. A revision that has not run to its '
            "end builds it again at the next start; otherwise build it by hand."
            for schema, index, table in found
        )

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
            code = errors.sqlstate(error)
            if code in errors.NO_TABLE:
                return None
            if code == errors.NO_RIGHT:
                raise DatabaseUnavailable(
                    f"This user may not read the version table {schema + '.' if schema else ''}"
                    f"{table} of {self.shown_url}. Let its owner `GRANT SELECT`, and for "
                    "migrations all rights, to this user; or name the owner in the URL.",
                    url=self.shown_url,
                ) from error
            raise

    def _marked(self, connection: Connection, schema: str | None) -> str:
        names = connection.dialect.identifier_preparer
        of = f"{names.quote_schema(schema)}." if schema is not None else ""
        literal = (of + TABLE).replace("'", "''")
        return f"to_regclass('{literal}') IS NOT NULL"

    def mark(self, connection: Connection, schema: str | None, version_table: str) -> Mark | None:
        """Also beside a leader that drops its table at this moment, and in a transaction."""
        inside = _in_savepoint(connection)
        try:
            mark = super().mark(connection, schema, version_table)
        except DBAPIError as error:
            if errors.sqlstate(error) not in errors.NO_TABLE:
                raise
            mark = None
            if inside:
                connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
        if inside:
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        return mark

    @contextmanager
    def alone(self, connection: Connection) -> Iterator[bool]:
        """By the fence, for one transaction; who reads the table of marks is not waited for."""
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
        yield _yes(connection, f"SELECT pg_try_advisory_xact_lock({NAMESPACE}, {FENCE})")
        connection.exec_driver_sql("COMMIT")

    def tables(
        self, connection: Connection, version_table: str, schema: str | None
    ) -> tuple[str, ...]:
        """Without those of extensions, and without partitions."""
        given = {"schema": schema or "", "version_table": version_table}
        return tuple(sorted(set(connection.execute(catalogue.TABLES, given).scalars())))

    def lacking(
        self, connection: Connection, tables: Sequence[tuple[str | None, str]]
    ) -> tuple[str, ...]:
        """By a query for each."""
        return tuple(
            f"{schema}.{name}" if schema else name
            for schema, name in tables
            if connection.execute(catalogue.LACKING, {"schema": schema, "name": name}).scalar_one()
        )

    def default_schema(self, connection: Connection, table: str) -> str:
        """The schema in which the connection finds the table, or would make it."""
        found = connection.execute(catalogue.SCHEMA_OF, {"name": table}).scalar_one()
        if found is None:
            path = connection.exec_driver_sql("SHOW search_path").scalar_one()
            raise ConfigurationError(
                f"The search_path of env.py's connection to {self.shown_url} leads to no schema "
                f"that exists: {path}. Nothing was changed. Make the schema, or set another "
                "search_path.",
                setting="database_url",
            )
        return str(found)

    def role(self, connection: Connection) -> str | None:
        """As `SET ROLE` has left it."""
        statement = "SELECT nullif(current_user, session_user)"
        role: str | None = connection.exec_driver_sql(statement).scalar_one()
        return role

    def act_as(self, connection: Connection, role: str | None) -> None:
        """By `SET ROLE`."""
        if role is not None:
            name = connection.dialect.identifier_preparer.quote_identifier(role)
            try:
                connection.exec_driver_sql(f"SET ROLE {name}")
            except DBAPIError as error:
                raise DatabaseUnavailable(
                    f"env.py acts as the role {role} in {self.shown_url}, and the user of the URL "
                    f"may not, or not any more: {told(error.orig or error, self.secrets)}. Let an "
                    f"administrator `GRANT {name} TO` that user.",
                    url=self.shown_url,
                ) from error

    def is_hidden(self, connection: Connection, table: str, schema: str | None) -> bool:
        """Where `env.py` connects as another user, and acts as no other role."""
        user = self.url.username
        if user is None or user == connection.engine.url.username or self.role(connection):
            return False
        given = {"user": user, "schema": schema, "table": table}
        return connection.execute(catalogue.MAY_READ, given).scalar() is False

    def same_as(self, connection: Connection) -> bool:
        """Whether the server shows it a lock that is held here, however both spell the URL."""
        url = connection.engine.url
        if url.get_backend_name() != "postgresql":
            return False
        if type(self)(url).identity == self.identity:
            # Its engine may have been told another name beside the URL.
            name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
            return bool(name == (self.url.database or name))
        key = random.randint(3, 2**31 - 1)
        with self.connect() as own:
            # In a transaction, so that a pooler leaves the lock where it is.
            own.exec_driver_sql("BEGIN")
            own.exec_driver_sql(f"SELECT pg_advisory_xact_lock({NAMESPACE}, {key})")
            seen = connection.execute(catalogue.SEES, {"key": key}).scalar_one()
            own.exec_driver_sql("ROLLBACK")
        return bool(seen)

    def explain(self, error: BaseException) -> DatabaseUnavailable | None:
        """By SQLSTATE, and by what the drivers say of a connection that has ended."""
        return errors.explain(error, self)

    def explain_own(self, error: BaseException) -> DatabaseUnavailable | None:
        """Also that it was not answered in time."""
        return self.explain(error) or errors.kept_waiting(error, self)

    def leader(self, connection: Connection) -> tuple[bool, Holder | None]:
        """Who holds the lock, or works without it."""
        row = connection.exec_driver_sql(HOLDER, HELD).first()
        return (False, None) if row is None else (True, read_holder(*row))

    def session(self, connection: Connection) -> int:
        """The process of the server that serves the connection."""
        return driver.server_pid(connection)

    def is_at_work(self, connection: Connection, session: int) -> bool:
        """By the fence."""
        found = connection.execute(catalogue.HAS_FENCE, {"pid": session}).scalar_one()
        return bool(found)

    def cancel(self, session: int) -> bool:
        """Whatever its driver: by a connection of our own, which is tried for two seconds."""
        try:
            with driver.engine(self.url, connect_timeout="2").connect() as connection:
                statement = f"SELECT pg_cancel_backend({session:d})"
                return bool(connection.exec_driver_sql(statement).scalar_one())
        except (DBAPIError, ConfigurationError):
            return False

    def blockers(self, connection: Connection, session: int) -> tuple[Blocker, ...]:
        """What `pg_stat_activity` tells: of others' states and queries only to `pg_monitor`."""
        return tuple(
            Blocker(
                pid=pid,
                user=user,
                application=application or None,
                state=state,
                since=since,
                query=blanked(query) if query and state is not None else None,
            )
            for pid, user, application, state, since, query in connection.execute(
                catalogue.BLOCKERS, {"pid": session}
            )
        )

    def progress(self, connection: Connection, session: int) -> Progress | None:
        """Of an index that is built."""
        row = connection.execute(catalogue.PROGRESS, {"pid": session}).first()
        if row is None:
            return None
        phase, done, total = row
        return Progress(phase=phase, percent=100.0 * done / total if total else None)

    def advice(self, error: BaseException) -> str | None:
        """What to do about a right that is lacking."""
        code = errors.sqlstate(error)
        if code in errors.UNPREPARED and "prepared statement" in str(error):
            return (
                "Its driver prepares statements, which a pooler that gives each transaction "
                f"another session does not keep: set {by_setting('direct_url')}, or switch that "
                "off in env.py's engine, as the documents of SQLAlchemy's dialect say."
            )
        if code == errors.NO_RIGHT:
            return (
                "Let an administrator give this user what is lacking, for a schema by `GRANT "
                "CREATE, USAGE ON SCHEMA name TO user`, for tables by making it their owner; or "
                "name another user in the URL. Then start again."
            )
        return None

    def lock(self, holder: Callable[[], Holder], warn: Callable[[str], object]) -> PostgreSQLLock:
        """An advisory lock, on a connection of its own."""
        return PostgreSQLLock(self, holder, warn)


def _in_savepoint(connection: Connection) -> bool:
    """Begin a savepoint, if there is a transaction; to try it is harmless."""
    try:
        connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")
    except DBAPIError as error:
        if errors.sqlstate(error) == errors.NO_TRANSACTION:
            return False
        raise
    return True


def _yes(connection: Connection, question: str) -> bool:
    return bool(connection.exec_driver_sql(question).scalar_one())


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value or ()


def _with_port(host: str, port: str) -> str:
    """The host with its port; a directory of sockets holds a `:` in no place that counts."""
    bare = host.startswith("/") or ":" not in host
    return f"{host}:{port}" if bare else host
