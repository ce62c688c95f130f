"""What expressions in a revision's code stand for, as far as it is written down: none is run."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

UNKNOWN: Final = object()


@dataclass(frozen=True, slots=True)
class Batch:
    """What `op.batch_alter_table` gives; `table` is the one that it alters."""

    table: str


class Names:
    """The names in one function, while it is read from its beginning to its end."""

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = dict(names)

    def bind(self, target: ast.expr, value: Any) -> None:
        """Let a name, or names in a tuple, stand for a value from now on."""
        if isinstance(target, ast.Name):
            self._names[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            several = isinstance(value, (list, tuple)) and len(value) == len(target.elts)
            for position, one in enumerate(target.elts):
                self.bind(one, value[position] if several else UNKNOWN)

    def forget(self, *names: str) -> None:
        """Let nobody know any more what these stand for."""
        self._names.update(dict.fromkeys(names, UNKNOWN))

    def value(self, node: ast.expr) -> Any:
        """What an expression stands for, or `UNKNOWN`."""
        match node:
            case ast.Name():
                return self._names.get(node.id, UNKNOWN)
            case ast.Attribute():
                owner = self.value(node.value)
                # Of any other object, to look might run something.
                known = isinstance(owner, (ModuleType, type))
                return inspect.getattr_static(owner, node.attr, UNKNOWN) if known else UNKNOWN
            case ast.JoinedStr():
                parts = [getattr(part, "value", part) for part in node.values]
                return "".join(
                    self.shown(part) if isinstance(part, ast.expr) else part for part in parts
                )
            case ast.Tuple() | ast.List() | ast.Set():
                return [self.value(one) for one in node.elts]
            case ast.Call() if called(node) == "batch_alter_table":
                return Batch(self.table(node))
            case ast.Call() if called(node) == "f" and node.args:  # marks a name as it stands
                return self.value(node.args[0])
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return UNKNOWN

    def shown(self, node: ast.expr) -> str:
        """The value of an expression as a text; its code in braces where it is not known."""
        value = self.value(node)
        return str(value) if isinstance(value, (str, int)) else f"{{{ast.unparse(node)}}}"

    def argument(self, node: ast.Call, position: int, keyword: str) -> str:
        """An argument of a call, shown."""
        given = [one.value for one in node.keywords if one.arg == keyword]
        given += node.args[position : position + 1]
        return self.shown(given[0]) if given else "{…}"

    def column(self, node: ast.Call, position: int) -> str:
        """A column by its name, or as it is made: `sa.Column("name", …)`."""
        given = [one.value for one in node.keywords if one.arg in ("column_name", "column")]
        given += node.args[position : position + 1]
        if given and isinstance(given[0], ast.Call) and called(given[0]) == "Column":
            return self.argument(given[0], 0, "name")
        return self.shown(given[0]) if given else "{…}"

    def table(self, node: ast.Call, position: int = 0) -> str:
        """The table that is an argument of an operation, by default the first, with its schema."""
        schemas = [one.value for one in node.keywords if one.arg == "schema"]
        schema = self.value(schemas[0]) if schemas else None
        name = self.argument(node, position, "table_name")
        return f"{schema}.{name}" if isinstance(schema, str) and schema else name


def called(node: ast.Call) -> str:
    """The last part of the name that is called."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
