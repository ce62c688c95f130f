"""What the work inside a pass sees of `env.py`: its connection, metadata and version table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from alembic.autogenerate import produce_migrations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, select
from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database, as_versions
from orchestrator.databases.marks import TABLE
from orchestrator.databases.url import redact
from orchestrator.decision.state import KnownTarget
from orchestrator.errors import ConfigurationError, by_setting
from orchestrator.results import Difference, Mark
from orchestrator.revisions.differences import in_words
from orchestrator.revisions.scripts import Scripts
from orchestrator.revisions.seen import seen

_ONE_DATABASE: Final = "upgrades"
"""Alembic's default `upgrade_token`; the template for several databases gives each its own."""


class Environment:
    """What the work inside a pass has: `env.py`'s own connection, metadata and version table."""

    def __init__(self, context: MigrationContext, scripts: Scripts) -> None:
        self.scripts = scripts
        self.mark: Mark | None = None
        """What tells of a revision that was interrupted, and may be repeated."""
        self._context = context
        self._has_rows = False

    @property
    def connection(self) -> Connection:
        """The connection on which everything is done."""
        connection = self._context.connection
        if connection is None:
            raise ConfigurationError("env.py configured no connection, so nothing can be migrated.")
        return connection

    @property
    def perhaps_one_of_several(self) -> bool:
        """Whether `env.py` looks like one for several databases."""
        return self._context.opts.get("upgrade_token") != _ONE_DATABASE

    def check_is(self, database: Database) -> None:
        """Raise `ConfigurationError` where the connection is to another database than this."""
        env_py, connection = self.scripts.directory.env_py_location, self.connection
        if not database.same_as(connection):
            own, shown = redact(connection.engine.url), database.shown_url
            if own == shown:  # a relative path, and env.py has changed the working directory
                there = type(database)(connection.engine.url)
                own, shown = there.identity, database.identity
            raise ConfigurationError(
                f"{env_py} connects to {own}, but the orchestrator's "
                f"database is {shown}. Nothing was changed. Make both name the same "
                f"database; the orchestrator's is {by_setting('database_url')}.",
                setting="database_url",
            )
        if not database.shares(self.version_table_schema):
            raise ConfigurationError(
                f"{env_py} keeps the version table in {self.version_table_schema!r}, which is "
                "attached to its own connection and which no other sees, so nothing could be "
                "proved. Nothing was changed. Keep it in the database itself.",
                setting="database_url",
            )

    def check_can_be_proved(self, database: Database) -> None:
        """Raise `ConfigurationError` where connections of ours may not read the version table.

        Called when there is one, and before anything is done.
        """
        if not database.is_hidden(self.connection, self.version_table, self.version_table_schema):
            return
        own, others = database.url.username, self.connection.engine.url.username
        raise ConfigurationError(
            f"{self.scripts.directory.env_py_location} connects to {database.shown_url} as "
            f"{others}, and {own}, the user of the orchestrator's URL, may not read the version "
            "table: nothing could be proved, and no later start could tell that there is nothing "
            f"to do. Nothing was changed. Name the same user in both ({by_setting('database_url')},"
            f" or {by_setting('direct_url')}), or let {others} `GRANT SELECT ON "
            f"{self.version_table} TO {own}`.",
            setting="database_url",
        )

    @property
    def version_table(self) -> str:
        """The name of the table that holds the version rows."""
        return str(self._context.version_table)

    @property
    def version_table_schema(self) -> str | None:
        """The schema of that table; None for the default."""
        return self._context.version_table_schema

    @property
    def has_version_table(self) -> bool:
        """Whether there is one."""
        return self._context._has_version_table()

    def known(self, database: Database) -> KnownTarget:
        """Where every other connection finds the version rows. Raises as `found_schema` does."""
        return KnownTarget(
            versions=(),
            version_table=self.version_table,
            version_table_schema=self.found_schema(database),
            role=database.role(self.connection),
        )

    def found_schema(self, database: Database) -> str | None:
        """The schema of the version table as every other connection finds it.

        Raises `ConfigurationError` where the connection's search path leads to none.
        """
        named = self.version_table_schema
        return named or database.default_schema(self.connection, self.version_table)

    def versions(self) -> tuple[str, ...]:
        """The version rows, as they are now, sorted."""
        return as_versions(self.versions_as_they_stand())

    def versions_as_they_stand(self) -> tuple[str, ...]:
        """The version rows in the table's own order.

        Of several, Alembic goes back from the first where a target is relative.
        """
        if self._has_rows:  # then there is no need to look for the table
            query = select(self._context._version.c.version_num)
            rows = tuple(self.connection.execute(query).scalars())
        else:
            rows = self._context.get_current_heads()
            self._has_rows = bool(rows)
        return tuple(row for row in rows if row is not None)

    def metadata(self) -> tuple[MetaData, ...]:
        """The metadata that `env.py` declares.

        Raises `ConfigurationError` where there is none, or none with a table in it.
        """
        declared = self._context.opts.get("target_metadata")
        found: Sequence[MetaData] = (
            (declared,) if isinstance(declared, MetaData) else tuple(declared or ())
        )
        if not any(metadata.tables for metadata in found):
            lacking = "has no tables: are the models imported?" if found else "is not declared."
            raise ConfigurationError(
                f"The target_metadata of {self.scripts.directory.env_py_location} {lacking} "
                "Without tables nothing can be created or compared. Nothing was changed. Import "
                "the models there, and set it: `target_metadata = Base.metadata`, or with SQLModel "
                "`target_metadata = SQLModel.metadata`.",
                setting="bootstrap",
            )
        return tuple(found)

    def declared_tables(self) -> tuple[tuple[str | None, str], ...]:
        """The schema and the name of each table of the metadata."""
        return tuple(
            (one.schema, one.name) for each in self.metadata() for one in each.sorted_tables
        )

    def differences(self, *, there: str = "the database") -> tuple[Difference, ...]:
        """How the database, which is told as `there`, differs from the metadata.

        By what `env.py` has configured for `--autogenerate`, and never by the version table.
        Raises `ConfigurationError` as `metadata` does.
        """
        self.metadata()
        context = self._context
        scripts = [produce_migrations(context, context.opts["target_metadata"])]
        refine = context.opts.get("process_revision_directives")
        if refine is not None:
            refine(context, context.get_current_heads(), scripts)
        return in_words(
            (
                entry
                for script in scripts
                for operations in script.upgrade_ops_list
                for entry in operations.as_diffs()
            ),
            context.dialect,
            there=there,
            uncounted=self._own_tables(),
        )

    def seen(self, mark: Mark) -> tuple[str, ...]:
        """How far a revision has come that was interrupted, as far as its code shows."""
        return seen(self.scripts, mark, self.connection)

    def _own_tables(self) -> set[tuple[str | None, str]]:
        """The version table, and that of marks, by each name that they go by."""
        schema = self.version_table_schema
        default = self._context.dialect.default_schema_name
        schemas = {schema, None} if schema in (None, default) else {schema}
        return {(one, name) for one in schemas for name in (self.version_table, TABLE)}

    @property
    def versions_statement(self) -> str:
        """The statement that reads the version rows, in the dialect's words."""
        query = select(self._context._version.c.version_num)
        # Without parameters a driver takes a `%` as it is.
        return str(query.compile(dialect=self._context.dialect)).replace("%%", "%")

    def create_version_table(self) -> None:
        """Make the version table if there is none, inside the transaction."""
        self._context._version.create(self.connection, checkfirst=True)

    def clean_version_rows(self) -> tuple[str, ...]:
        """Take away rows that are no revision's id, and such as stand there twice."""
        table, connection = self._context._version, self.connection
        kept = {row for row in self._context.get_current_heads() if isinstance(row, str)}
        connection.execute(table.delete())
        for row in sorted(kept):
            connection.execute(table.insert().values(version_num=row))
        return tuple(sorted(kept))

    def as_one_transaction(self) -> None:
        """Keep Alembic from committing after each step: create and stamp are one piece."""
        self._context._transaction_per_migration = False

    @property
    def offline(self) -> bool:
        """Whether statements are written down instead of executed."""
        return self._context.as_sql
