"""The names that this library supports, and the examples in its docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

import pytest

import orchestrator

SUPPORTED = [
    "AppliedRevision",
    "Check",
    "ConfigurationError",
    "DatabaseReady",
    "DatabaseState",
    "DatabaseUnavailable",
    "Difference",
    "Drop",
    "Event",
    "Holder",
    "Inspection",
    "LockTimeout",
    "Orchestrator",
    "OrchestratorError",
    "PeerFailed",
    "Preview",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunReport",
    "Settings",
    "StateRefused",
    "TaskFailed",
    "VerificationFailed",
]
"""Taking one away, or adding one, is a decision: it shows here."""


def test_the_supported_names_are_these() -> None:
    """`__all__` is exact, in order, and holds nothing twice."""
    assert orchestrator.__all__ == SUPPORTED == sorted(set(SUPPORTED))


def test_the_package_imports_nothing_else_by_name() -> None:
    """What a type checker sees imported in `__init__.py` is what can be had, from there."""
    tree = ast.parse(Path(orchestrator.__file__).read_text(encoding="utf-8"))
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("orchestrator.")
        for alias in node.names
    }
    had = {
        name: f"orchestrator.{home}"
        for home, names in orchestrator._HOMES.items()
        for name in names
    }

    assert sorted(imported) == SUPPORTED
    assert imported == had
    assert set(SUPPORTED) <= set(dir(orchestrator))


def test_what_is_not_supported_cannot_be_had() -> None:
    """A name that there is not is an `AttributeError`, as of any module."""
    with pytest.raises(AttributeError, match="'orchestrator' has no attribute 'Orchestrater'"):
        orchestrator.Orchestrater  # noqa: B018


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_supported_name_is_documented(name: str) -> None:
    """A class has a docstring of its own, and so have its public methods and properties."""
    supported = getattr(orchestrator, name)

    assert "__doc__" in vars(supported)
    assert inspect.getdoc(supported)
    for member, value in vars(supported).items():
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert inspect.getdoc(value), f"{name}.{member}"


def test_star_import_gives_the_supported_names() -> None:
    """And no others."""
    names: dict[str, object] = {}
    exec("from orchestrator import *", names)

    assert sorted(names.keys() - {"__builtins__"}) == SUPPORTED


def test_the_package_is_typed() -> None:
    """Type checkers look for this file (PEP 561)."""
    assert (Path(orchestrator.__file__).parent / "py.typed").is_file()


def modules() -> list[str]:
    """Every module of the package, but for the one that runs the command line."""
    found = pkgutil.walk_packages(orchestrator.__path__, "orchestrator.")
    return ["orchestrator", *(one.name for one in found if one.name != "orchestrator.__main__")]


@pytest.mark.parametrize("name", modules())
def test_every_module_says_what_it_is_for(name: str) -> None:
    """It has a docstring, and the examples in it and below do what they show."""
    module: ModuleType = importlib.import_module(name)

    assert module.__doc__
    failed, _ = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert not failed


def test_there_is_an_example() -> None:
    """The package's own docstring begins with one, so the test above has something to run."""
    assert doctest.testmod(orchestrator).attempted > 0
