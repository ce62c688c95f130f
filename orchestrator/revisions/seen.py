"""How far an interrupted revision has come: which of what it makes and drops is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Inspector
from sqlalchemy.exc import NoSuchTableError

from orchestrator.results import Mark, Revision
from orchestrator.revisions.changes import Change, changes
from orchestrator.revisions.scripts import Scripts

_MOST: Final = 30


def seen(scripts: Scripts, mark: Mark, connection: Connection) -> tuple[str, ...]:
    """What is there of the tables, columns and indexes that its code shows, in words.

    In the order in which the revision comes to them; nothing of a revision that no script has.
    """
    if scripts.unknown((mark.revision,)):
        return ()
    revision = Revision(revision=mark.revision)
    found = dict.fromkeys(
        (change.table, change.name, change.kind)
        for _, change in changes(scripts, (revision,), downgrade=mark.down)
        if "{" not in f"{change.table}{change.name}"  # its code only says how it is put together
    )
    inspector = sa.inspect(connection)
    told = tuple(_told(inspector, Change(*one)) for one in list(found)[:_MOST])
    return (*told, *(["…"] if len(found) > _MOST else []))


def _told(inspector: Inspector, change: Change) -> str:
    schema, _, table = change.table.rpartition(".")
    there = change.name in _named(inspector, change, table, schema or None)
    state = "is there" if there else "is not there"
    match change.kind:
        case "table":
            return f"table {change.table} {state}"
        case "column":
            return f"column {change.table}.{change.name} {state}"
        case "index":
            return f"index {change.name} on {change.table} {state}"


def _named(
    inspector: Inspector, change: Change, table: str, schema: str | None
) -> Iterator[str | None]:
    """Names of what is there of the same kind; None for the table itself."""
    try:
        match change.kind:
            case "table":
                yield from (None,) if inspector.has_table(table, schema) else ()
            case "column":
                yield from (one["name"] for one in inspector.get_columns(table, schema))
            case "index":
                yield from (one["name"] for one in inspector.get_indexes(table, schema))
    except NoSuchTableError:
        return
