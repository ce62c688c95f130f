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


def read(connection: Connection, schema: str | None) -> Mark | None:
    """The mark, if there is one. The table is asked for first: a failed question may end more."""
    if not sa.inspect(connection).has_table(TABLE, schema=schema):
        return None
    row = connection.execute(sa.select(_table(schema))).first()
    if row is None:
        return None
    began_at = None
    if row.began_at:
        began_at = datetime.fromisoformat(row.began_at).astimezone(UTC)
    return Mark(
        revision=row.revision,
        down=bool(row.down),
        statement=row.statement,
        began_at=began_at,
        process=row.process,
    )


def write(connection: Connection, schema: str | None, mark: Mark) -> None:
    """Leave this mark, in the place of any other; of a connection in autocommit."""
    table = _table(schema)
    table.create(connection, checkfirst=True)
    connection.execute(table.delete())
    connection.execute(
        table.insert().values(
            revision=mark.revision,
            down=int(mark.down),
            statement=mark.statement,
            began_at=(mark.began_at or datetime.now(UTC)).isoformat(),
            process=mark.process[:_LONGEST],
        )
    )


def advance(connection: Connection, schema: str | None, statement: int) -> None:
    """Say that one more statement was begun."""
    connection.execute(_table(schema).update().values(statement=statement))


def clear(connection: Connection, schema: str | None) -> None:
    """Take the mark away, and its table."""
    _table(schema).drop(connection, checkfirst=True)


def _table(schema: str | None) -> sa.Table:
    return sa.Table(
        TABLE,
        sa.MetaData(),
        sa.Column("revision", sa.String(_LONGEST), primary_key=True),
        sa.Column("down", sa.Integer, nullable=False),
        sa.Column("statement", sa.Integer, nullable=False),
        sa.Column("began_at", sa.String(40), nullable=False),
        sa.Column("process", sa.String(_LONGEST), nullable=False),
        schema=schema,
    )
