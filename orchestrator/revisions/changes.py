"""Which tables, columns and indexes a revision makes and drops, as its code shows it: never run.

To run it would tell more, and could do anything: a revision may open connections of its own. So
its code is followed as far as it says what it does without a database: names and loops of what is
written down, batches, functions of the project that it calls, and SQL as a text. Of a condition
both ways are.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from tokenize import TokenError
from types import FunctionType
from typing import Any, Final, Literal

from orchestrator.results import Revision
from orchestrator.revisions.code_names import UNKNOWN, Batch, Names, called
from orchestrator.revisions.scripts import Scripts

_PART: Final = r"""(?:"[^"]+"|`[^`]+`|\[[^\]]+\]|\{[^}]+\}|[\w$]+)"""
_NAME: Final = rf"(?:{_PART}\.)*{_PART}"
_DROPPED_TABLES: Final = re.compile(
    rf"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?({_NAME}(?:\s*,\s*{_NAME})*)", re.IGNORECASE
)
_DROPPED_COLUMN: Final = re.compile(
    rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({_NAME})\s+"
    rf"DROP\s+COLUMN\s+(?:IF\s+EXISTS\s+)?({_NAME})",
    re.IGNORECASE,
)
_MADE_TABLE: Final = re.compile(
    rf"\bCREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?({_NAME})", re.IGNORECASE
)
_MADE_COLUMN: Final = re.compile(
    rf"\bALTER\s+TABLE\s+(?:IF\s+EXISTS\s+)?(?:ONLY\s+)?({_NAME})\s+"
    rf"ADD\s+(?:COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?)"
    rf"({_NAME})",
    re.IGNORECASE,
)
_MADE_INDEX: Final = re.compile(
    rf"\bCREATE\s+(?:UNIQUE\s+)?INDEX\s+(?:CONCURRENTLY\s+)?(?:IF\s+NOT\s+EXISTS\s+)?({_NAME})"
    rf"\s+ON\s+(?:ONLY\s+)?({_NAME})",
    re.IGNORECASE,
)
_NAMED: Final = ("table_name", "column_name")
_MOST_CALLS: Final = 50
"""How many functions are followed in one revision."""


@dataclass(frozen=True, slots=True)
class Change:
    """A table, a column or an index of it, that is made or dropped."""

    table: str
    name: str | None = None
    kind: Literal["table", "column", "index"] = "table"
    made: bool = False


def changes(
    scripts: Scripts, revisions: Iterable[Revision], *, downgrade: bool
) -> Iterator[tuple[str, Change]]:
    """What these revisions make and drop, run in this order, each with the revision's id.

    Functions that they call are followed where their code lies in the same file or in the
    directory of the scripts. Nothing is told of what has no code in Python.
    """
    directory = os.path.join(os.path.abspath(scripts.directory.dir), "")
    for revision in revisions:
        script = scripts.directory.get_revision(revision.revision)
        name = "downgrade" if downgrade else "upgrade"
        function = getattr(script.module, name, None) if script else None
        if isinstance(function, FunctionType):
            follow = _Follow((_file(function), directory))
            follow(function, {})
            yield from ((revision.revision, change) for change in follow.found)


class _Follow:
    """Reads functions, one inside the other, into one list."""

    def __init__(self, places: tuple[str, ...]) -> None:
        self.found: list[Change] = []
        self._places = places
        self._left = _MOST_CALLS

    def __call__(self, function: FunctionType, given: Mapping[str, Any]) -> None:
        if self._left <= 0 or not _file(function).startswith(self._places):
            return
        self._left -= 1
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        except (OSError, SyntaxError, TokenError):  # no code, or a part of a line
            return
        names = Names({**function.__globals__, **given})
        for statement in getattr(tree.body[0], "body", ()):
            _Reader(self, names).visit(statement)

    def call(self, function: FunctionType, arguments: list[Any], named: dict[str, Any]) -> None:
        """Follow a call with these arguments."""
        code = function.__code__
        own = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self(
            function,
            {**dict.fromkeys(own, UNKNOWN), **dict(zip(own, arguments, strict=False)), **named},
        )


class _Reader(ast.NodeVisitor):
    """Reads the statements of a function, in order."""

    def __init__(self, follow: _Follow, names: Names) -> None:
        self._follow = follow
        self._names = names

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """What is defined inside is read where it stands."""
        arguments = (one.arg for one in ast.walk(node.args) if isinstance(one, ast.arg))
        self._names.forget(node.name, *arguments)
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        """A name stands for what it is given, if that is written down."""
        self.generic_visit(node)
        for target in node.targets:
            self._names.bind(target, self._names.value(node.value))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        """The same."""
        self.generic_visit(node)
        self._names.bind(node.target, self._names.value(node.value) if node.value else UNKNOWN)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """What is put together here is not known any more."""
        self.generic_visit(node)
        self._names.bind(node.target, UNKNOWN)

    def visit_For(self, node: ast.For) -> None:
        """Once for each of what is written down; else once for nobody knows what."""
        items = self._names.value(node.iter)
        known = isinstance(items, (list, tuple, set, frozenset, dict))
        for item in items if known else (UNKNOWN,):
            self._names.bind(node.target, item)
            for statement in (*node.body, *node.orelse):
                self.visit(statement)

    def visit_With(self, node: ast.With) -> None:
        """A batch is of one table."""
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._names.bind(item.optional_vars, self._names.value(item.context_expr))
        for statement in node.body:
            self.visit(statement)

    def visit_Call(self, node: ast.Call) -> None:
        """The operations that make and drop; and functions that are called."""
        self.generic_visit(node)
        match called(node):
            case "create_table":
                self._tell(Change(self._names.table(node), made=True))
            case "drop_table":
                self._tell(Change(self._names.table(node)))
            case "drop_column":
                self._tell(Change(*self._column(node), kind="column"))
            case "add_column":
                self._tell(Change(*self._column(node), kind="column", made=True))
            case "create_index":
                self._tell(Change(*self._index(node), kind="index", made=True))
            case "drop_index":
                self._tell(Change(*self._index(node), kind="index"))
            case "execute" | "exec_driver_sql":
                self._execute(node)
            case _ if isinstance(function := self._names.value(node.func), FunctionType):
                arguments = [self._names.value(one) for one in node.args]
                named = {one.arg: self._names.value(one.value) for one in node.keywords if one.arg}
                self._follow.call(function, arguments, named)

    def _column(self, node: ast.Call) -> tuple[str, str]:
        """`drop_column(table, column)`; of a batch, `drop_column(column)`. The same of `add_`."""
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        batch = self._names.value(owner)
        names = len(node.args) + sum(one.arg in _NAMED for one in node.keywords)
        if isinstance(batch, Batch):
            return batch.table, self._names.column(node, 0)
        if names == 1:  # of a batch that came from elsewhere
            return f"{{{ast.unparse(owner)}}}", self._names.column(node, 0)
        return self._names.table(node), self._names.column(node, 1)

    def _index(self, node: ast.Call) -> tuple[str, str]:
        """`create_index(name, table, …)`; of a batch, `create_index(name, …)`."""
        owner = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        batch = self._names.value(owner)
        name = self._names.argument(node, 0, "index_name")
        if isinstance(batch, Batch):
            return batch.table, name
        return self._names.table(node, 1), name

    def _execute(self, node: ast.Call) -> None:
        argument = node.args[0] if node.args else None
        if isinstance(argument, ast.Call) and argument.args:  # sa.text("…")
            argument = argument.args[0]
        sql = self._names.value(argument) if argument is not None else UNKNOWN
        if not isinstance(sql, str):
            return
        for match in _DROPPED_TABLES.finditer(sql):
            for name in match.group(1).split(","):
                self._tell(Change(_unquoted(name)))
        for match in _MADE_TABLE.finditer(sql):
            self._tell(Change(_unquoted(match[1]), made=True))
        for pattern, made in ((_DROPPED_COLUMN, False), (_MADE_COLUMN, True)):
            for table, column in pattern.findall(sql):
                self._tell(Change(_unquoted(table), _unquoted(column), kind="column", made=made))
        for name, table in _MADE_INDEX.findall(sql):
            self._tell(Change(_unquoted(table), _unquoted(name), kind="index", made=True))

    def _tell(self, change: Change) -> None:
        self._follow.found.append(change)


def _file(function: FunctionType) -> str:
    return os.path.abspath(function.__code__.co_filename)


def _unquoted(name: str) -> str:
    return re.sub(r"""["`\[\]]""", "", name.strip())
