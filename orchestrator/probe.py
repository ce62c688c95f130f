"""Asks a connection what the database is like."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError


def version_rows(
    connection: Connection, version_table: str, schema: str | None
) -> tuple[str, ...] | None:
    """The version rows; None where there is no such table. One small query.

    It is written out, since SQLAlchemy takes longer to build one than SQLite to answer it.
    """
    names = connection.dialect.identifier_preparer
    table = names.quote(version_table)
    if schema is not None:
        table = f"{names.quote_schema(schema)}.{table}"
    query = f"SELECT version_num FROM {table}"  # noqa: S608 - quoted
    try:
        return tuple(sorted(row[0] for row in connection.exec_driver_sql(query)))
    except DBAPIError:
        # No such table, or not a database at all: the second question tells them apart.
        connection.rollback()
        if not sa.inspect(connection).has_table(version_table, schema=schema):
            return None
    # A leader may have committed between the questions; what else was wrong is so again.
    return tuple(sorted(row[0] for row in connection.exec_driver_sql(query)))


def tables(connection: Connection, version_table: str, schema: str | None) -> tuple[str, ...]:
    """The tables that count: of the default schema and of the version table's.

    Not the version table itself, nor those that SQLite keeps for itself.
    """
    inspector = sa.inspect(connection)
    found = set(inspector.get_table_names())
    if schema is not None:
        found.update(inspector.get_table_names(schema=schema))
    return tuple(sorted(found - {version_table}))
