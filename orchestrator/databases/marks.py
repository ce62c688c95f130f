"""The mark of a revision whose work is committed bit by bit, in a table of its own.

It tells more than a version row: that something was begun. Where a change of tables commits at once
it is written on a connection of our own, so that it is there before what it tells of; elsewhere in
the very transaction whose commit divides the revision, as statements that are written out here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect

from orchestrator.results import Mark

TABLE: Final = "orchestrator_interrupted"
_LONGEST: Final = 255
_LONGEST_KEY: Final = 190


def read(connection: Connection, schema: str | None, version_table: str) -> Mark | None:
    """The mark of a project, if there is one: two of them may share a database, and the table."""
    table = _table(schema)
    row = connection.execute(sa.select(table).where(table.c.version_table == version_table)).first()
    if row is None:
        return None
    return Mark(
        revision=row.revision,
        down=bool(row.down),
        statement=row.statement,
        committed=row.committed,
        began_at=datetime.fromisoformat(row.began_at).astimezone(UTC),
        process=row.process,
    )


def write(connection: Connection, schema: str | None, version_table: str, mark: Mark) -> None:
    """Leave this mark, in the place of another of the project; of a connection in autocommit."""
    table = _table(schema)
    table.create(connection, checkfirst=True)
    if not rewrite(connection, schema, version_table, mark):
        connection.execute(table.insert().values(_values(version_table, mark)))


def rewrite(connection: Connection, schema: str | None, version_table: str, mark: Mark) -> bool:
    """Put this mark in the place of the project's other one; whether there was one."""
    table = _table(schema)
    of_project = table.c.version_table == version_table
    values = _values(version_table, mark)
    return connection.execute(table.update().where(of_project).values(values)).rowcount == 1


def erase(connection: Connection, schema: str | None, version_table: str) -> None:
    """Take the mark away, and leave its table."""
    table = _table(schema)
    connection.execute(table.delete().where(table.c.version_table == version_table))


def clear(
    connection: Connection,
    schema: str | None,
    version_table: str,
    *,
    is_over: Callable[[Mark], bool],
) -> None:
    """Take the mark away if it `is_over`, and the table if no project has one.

    To be called while nobody else is at work.
    """
    table = _table(schema)
    mark = read(connection, schema, version_table)
    if mark is not None and not is_over(mark):
        return
    erase(connection, schema, version_table)
    if not connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one():
        table.drop(connection)


def making(dialect: Dialect, schema: str | None) -> str:
    """The statement that makes the table."""
    return _text(sa.schema.CreateTable(_table(schema)), dialect)


def leaving(
    dialect: Dialect, schema: str | None, version_table: str, mark: Mark
) -> tuple[str, str]:
    """The statements that leave this mark, in the place of another of the project."""
    table = _table(schema)
    return (
        erasing(dialect, schema, version_table),
        _text(table.insert().values(_values(version_table, mark)), dialect),
    )


def advancing(dialect: Dialect, schema: str | None, version_table: str, mark: Mark) -> str:
    """The statement that says how far it has come since."""
    table = _table(schema)
    of_project = table.c.version_table == version_table
    values = {"statement": mark.statement, "committed": mark.committed}
    return _text(table.update().where(of_project).values(values), dialect)


def erasing(dialect: Dialect, schema: str | None, version_table: str) -> str:
    """The statement that takes the mark away."""
    table = _table(schema)
    return _text(table.delete().where(table.c.version_table == version_table), dialect)


def _values(version_table: str, mark: Mark) -> dict[str, object]:
    return {
        "version_table": version_table,
        "revision": mark.revision,
        "down": int(mark.down),
        "statement": mark.statement,
        "committed": mark.committed,
        "began_at": (mark.began_at or datetime.now(UTC)).isoformat(),
        "process": mark.process[:_LONGEST],
    }


def _text(statement: sa.ClauseElement, dialect: Dialect) -> str:
    """Written out for the driver's own cursor, which takes a `%` as it is."""
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return str(compiled).replace("%%", "%")


@cache
def _table(schema: str | None) -> sa.Table:
    """One for a schema: what SQLAlchemy has compiled for another, it would not find again."""
    return sa.Table(
        TABLE,
        sa.MetaData(),
        # As long as any row format lets a key be.
        sa.Column("version_table", sa.String(_LONGEST_KEY), primary_key=True),
        sa.Column("revision", sa.String(_LONGEST), nullable=False),
        sa.Column("down", sa.Integer, nullable=False),
        sa.Column("statement", sa.Integer, nullable=False),
        sa.Column("committed", sa.Integer, nullable=False),
        sa.Column("began_at", sa.String(40), nullable=False),
        sa.Column("process", sa.String(_LONGEST), nullable=False),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
