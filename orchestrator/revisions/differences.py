"""How a database differs from the models, in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Final

from sqlalchemy import Column, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.engine import Dialect

from orchestrator.results import Difference

_ADDRESS: Final = re.compile(r" at 0x[0-9a-f]+", re.IGNORECASE)
_WHOLE_TABLES: Final = ("add_table", "remove_table")

_Name = tuple[str | None, str]
"""The schema and the name of a table."""


def in_words(
    entries: Iterable[Any],
    dialect: Dialect,
    *,
    there: str,
    uncounted: Collection[_Name | None] = (),
) -> tuple[Difference, ...]:
    """What Alembic's comparison found, sorted; `there` says what was compared with the models.

    Alembic words an entry as the operation that would bring the database to the models; here
    it is told as what the database is like. Tables in `uncounted` are left out. Of a table that
    is only on one side, so are its indexes.
    """
    flat = list(_flat(entries))
    whole = {_table_of(entry) for entry in flat if entry[0] in _WHOLE_TABLES}
    counted = [
        entry
        for entry in flat
        if _table_of(entry) not in uncounted
        and (entry[0] in _WHOLE_TABLES or _table_of(entry) not in whole)
    ]
    told = [_Told(dialect, there).difference(*entry) for entry in counted]
    return tuple(sorted(told, key=lambda one: one.identifier))


def _flat(entries: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    for entry in entries:
        if isinstance(entry, list):  # changes of one column come together
            yield from _flat(entry)
        else:
            yield tuple(entry)


def _table_of(entry: tuple[Any, ...]) -> _Name | None:
    """The table that an entry is about; None where its kind is not one of Alembic's own."""
    kind, *what = entry
    if kind not in _KINDS:
        return None
    if kind in _COLUMNS:
        return what[0], str(what[1])
    table = getattr(what[0], "table", what[0])
    return table.schema, str(table.name)


class _Told:
    def __init__(self, dialect: Dialect, there: str) -> None:
        self._dialect = dialect
        self._there = there

    def difference(self, kind: str, *what: Any) -> Difference:
        tell = _KINDS.get(kind)
        if tell is None:
            told = _one_line(f"{kind}: {', '.join(str(item) for item in what)}")
            return Difference(identifier=told, words=told)
        return tell(self, *what)

    def missing(self, *what: Any) -> Difference:
        subject = _subject(*what)
        return Difference(
            identifier=f"{subject}: missing",
            words=f"{subject} is in the models, not in {self._there}",
        )

    def extra(self, *what: Any) -> Difference:
        subject = _subject(*what)
        return Difference(
            identifier=f"{subject}: extra",
            words=f"{subject} is in {self._there}, not in the models",
        )

    def type_changed(
        self, schema: str | None, table: str, column: str, _: Any, found: Any, declared: Any
    ) -> Difference:
        shown = [self._type(type_) for type_ in (found, declared)]
        if shown[0] == shown[1]:  # they differ in what the database's own word for them lacks
            shown = [repr(type_) for type_ in (found, declared)]
        return self._changed(_subject(schema, table, column), "type ", *shown)

    def nullable_changed(
        self, schema: str | None, table: str, column: str, _: Any, found: Any, declared: Any
    ) -> Difference:
        shown = ("NULL" if value else "NOT NULL" for value in (found, declared))
        return self._changed(_subject(schema, table, column), "", *shown)

    def default_changed(
        self, schema: str | None, table: str, column: str, _: Any, found: Any, declared: Any
    ) -> Difference:
        shown = (self._default(value) for value in (found, declared))
        return self._changed(_subject(schema, table, column), "default ", *shown)

    def comment_changed(
        self, schema: str | None, table: str, column: str, _: Any, found: Any, declared: Any
    ) -> Difference:
        subject = _subject(schema, table, column)
        return self._changed(subject, "comment ", _quoted(found), _quoted(declared))

    def table_comment_changed(self, table: Any, found: Any = "") -> Difference:
        # Alembic does not tell a comment that is in the database only.
        shown = "one" if found == "" else _quoted(found)
        return self._changed(_subject(table), "comment ", shown, _quoted(table.comment))

    def _changed(self, subject: str, attribute: str, found: str, declared: str) -> Difference:
        found, declared = _one_line(found), _one_line(declared)
        return Difference(
            identifier=f"{subject}: {attribute}{found}, not {declared}",
            words=f"{subject}: {attribute}{found} in {self._there}, {declared} in the models",
        )

    def _type(self, type_: Any) -> str:
        try:
            return str(type_.compile(dialect=self._dialect))
        except Exception:  # noqa: BLE001 - one that the database has no word for; or the project's
            return repr(type_)

    def _default(self, value: Any) -> str:
        if not value:
            return "none"
        text = getattr(value, "arg", None)
        if text is None:
            text = getattr(value, "sqltext", value)  # of a computed column
        return str(text)


def _subject(*what: Any) -> str:
    """A table; a part of one; or a column, by the table's schema and name."""
    if len(what) > 1:
        schema, table, column = what
        return _one_line(f"column {_qualified(schema, table)}.{getattr(column, 'name', column)}")
    [part] = what
    table = getattr(part, "table", None)
    if table is None:
        return _one_line(f"table {_qualified(part.schema, part.name)}")
    unique = (
        "unique " if isinstance(part, UniqueConstraint) or getattr(part, "unique", False) else ""
    )
    name = f" {part.name}" if isinstance(part.name, str) else ""
    told = f"{unique}{_noun(part)}{name} on {_qualified(table.schema, table.name)}"
    return _one_line(f"{told} ({', '.join(_columns(part))}){_referred(part)}")


def _noun(part: Any) -> str:
    if isinstance(part, Index):
        return "index"
    return "foreign key" if isinstance(part, ForeignKeyConstraint) else "constraint"


def _columns(part: Any) -> Iterator[str]:
    for one in part.expressions if isinstance(part, Index) else getattr(part, "columns", ()):
        yield str(one.name) if isinstance(one, Column) else str(one)


def _referred(part: Any) -> str:
    if not isinstance(part, ForeignKeyConstraint):
        return ""
    targets = [element.target_fullname.rpartition(".") for element in part.elements]
    told = f" to {targets[0][0]} ({', '.join(column for _, _, column in targets)})"
    told += f" ON UPDATE {part.onupdate}" if part.onupdate else ""
    return told + (f" ON DELETE {part.ondelete}" if part.ondelete else "")


def _qualified(schema: str | None, name: str) -> str:
    return f"{schema}.{name}" if schema else name


def _quoted(comment: str | None) -> str:
    return "none" if comment is None else repr(comment)


def _one_line(text: str) -> str:
    """As it can stand in a line, and the same in every process."""
    return " ".join(_ADDRESS.sub("", text).split())


_COLUMNS: Final[dict[str, Callable[..., Difference]]] = {
    "add_column": _Told.missing,
    "remove_column": _Told.extra,
    "modify_type": _Told.type_changed,
    "modify_nullable": _Told.nullable_changed,
    "modify_default": _Told.default_changed,
    "modify_comment": _Told.comment_changed,
}
_KINDS: Final[dict[str, Callable[..., Difference]]] = {
    **_COLUMNS,
    **{f"add_{kind}": _Told.missing for kind in ("table", "index", "constraint", "fk")},
    **{f"remove_{kind}": _Told.extra for kind in ("table", "index", "constraint", "fk")},
    "add_table_comment": _Told.table_comment_changed,
    "remove_table_comment": _Told.table_comment_changed,
}
