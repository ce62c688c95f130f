"""How a database differs from the metadata, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

_Words = Callable[..., str]


def in_words(entry: Any) -> tuple[str, ...]:
    """An entry of Alembic's `compare_metadata`, a line for each difference.

    Alembic words an entry as the operation that would bring the database to the metadata;
    here it is told as what the database is like.
    """
    if isinstance(entry, list):  # changes of one column come together
        return tuple(line for change in entry for line in in_words(change))
    kind, *what = entry
    words = _WORDS.get(str(kind))
    return (words(*what) if words else f"{kind}: {', '.join(str(item) for item in what)}",)


def _column(schema: str | None, table: str, column: Any) -> str:
    return f"column {_qualified(schema, table)}.{getattr(column, 'name', column)}"


def _qualified(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def _table(table: Any) -> str:
    return f"table {_qualified(table.schema, table.name)}"


def _part(noun: str) -> Callable[[Any], str]:
    def told(part: Any) -> str:
        columns = ", ".join(
            str(getattr(column, "name", column)) for column in getattr(part, "columns", ())
        )
        name = f" {part.name}" if part.name else ""
        return f"{noun}{name} on {part.table.name} ({columns})"

    return told


def _missing(noun: Callable[..., str]) -> _Words:
    return lambda *what: f"{noun(*what)} is not in the database"


def _extra(noun: Callable[..., str]) -> _Words:
    return lambda *what: f"{noun(*what)} is in the database, but not in the metadata"


def _changed(attribute: str, shown: Callable[[Any], str]) -> _Words:
    def told(schema: str | None, table: str, column: str, _: Any, found: Any, declared: Any) -> str:
        return (
            f"{_column(schema, table, column)}: {attribute} is {shown(found)} in the database, "
            f"{shown(declared)} in the metadata"
        )

    return told


def _nullable(value: Any) -> str:
    return "NULL" if value else "NOT NULL"


def _default(value: Any) -> str:
    if not value:
        return "none"
    return str(getattr(value, "arg", value))


_WORDS: Final[dict[str, _Words]] = {
    "add_table": _missing(_table),
    "remove_table": _extra(_table),
    "add_column": _missing(_column),
    "remove_column": _extra(_column),
    "add_index": _missing(_part("index")),
    "remove_index": _extra(_part("index")),
    "add_constraint": _missing(_part("constraint")),
    "remove_constraint": _extra(_part("constraint")),
    "add_fk": _missing(_part("foreign key")),
    "remove_fk": _extra(_part("foreign key")),
    "modify_type": _changed("the type", str),
    "modify_nullable": _changed("it", _nullable),
    "modify_default": _changed("the default", _default),
    "modify_comment": _changed("the comment", repr),
    "add_table_comment": lambda table, *_: f"the comment of {_table(table)} differs",
    "remove_table_comment": lambda table, *_: f"the comment of {_table(table)} differs",
}
