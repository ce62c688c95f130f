"""The mark of a revision whose work is committed bit by bit, in a table of its own.

Written on a connection of our own, so that it is there before what it tells of, and never a part
of `env.py`'s transactions. It tells more than a version row: that something was begun.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from orchestrator.results import Mark

TABLE: Final = "orchestrator_interrupted"
_LONGEST: Final = 255
_LONGEST_KEY: Final = 190


def read(connection: Connection, schema: str | None, version_table: str) -> Mark | None:
    """The mark of a project, if there is one: two of them may share a database.

    The table is asked for first: a failed question may end more.
    """
    if not sa.inspect(connection).has_table(TABLE, schema=schema):
        return None
    table = _table(schema)
    row = connection.execute(sa.select(table).where(table.c.version_table == version_table)).first()
    if row is None:
        return None
    return Mark(
        revision=row.revision,
        down=bool(row.down),
        statement=row.statement,
        began_at=datetime.fromisoformat(row.began_at).astimezone(UTC),
        process=row.process,
    )


def write(connection: Connection, schema: str | None, version_table: str, mark: Mark) -> None:
    """Leave this mark, in the place of another of the project; of a connection in autocommit."""
    table = _table(schema)
    table.create(connection, checkfirst=True)
    connection.execute(table.delete().where(table.c.version_table == version_table))
    connection.execute(
        table.insert().values(
            version_table=version_table,
            revision=mark.revision,
            down=int(mark.down),
            statement=mark.statement,
            began_at=(mark.began_at or datetime.now(UTC)).isoformat(),
            process=mark.process[:_LONGEST],
        )
    )


def advance(connection: Connection, schema: str | None, version_table: str, statement: int) -> None:
    """Say that one more statement was begun."""
    table = _table(schema)
    of_project = table.c.version_table == version_table
    connection.execute(table.update().where(of_project).values(statement=statement))


def erase(connection: Connection, schema: str | None, version_table: str) -> None:
    """Take the mark away, and leave its table."""
    table = _table(schema)
    connection.execute(table.delete().where(table.c.version_table == version_table))


def clear(connection: Connection, schema: str | None, version_table: str) -> None:
    """Take the mark away, and its table, if no other project has one."""
    table = _table(schema)
    if not sa.inspect(connection).has_table(TABLE, schema=schema):
        return
    erase(connection, schema, version_table)
    if not connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one():
        table.drop(connection)


def _table(schema: str | None) -> sa.Table:
    return sa.Table(
        TABLE,
        sa.MetaData(),
        # As long as any row format lets a key be.
        sa.Column("version_table", sa.String(_LONGEST_KEY), primary_key=True),
        sa.Column("revision", sa.String(_LONGEST), nullable=False),
        sa.Column("down", sa.Integer, nullable=False),
        sa.Column("statement", sa.Integer, nullable=False),
        sa.Column("began_at", sa.String(40), nullable=False),
        sa.Column("process", sa.String(_LONGEST), nullable=False),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
