"""The metadata of an application's models, found by the name that a user gives for it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import MetaData

from orchestrator.cli.output import stdout_kept_clean
from orchestrator.databases.quoting import told
from orchestrator.databases.secrets import NO_SECRETS
from orchestrator.errors import ConfigurationError

_INTACT = "Nothing was written."


def parts_of(named: str) -> tuple[str, str]:
    """The module and the name in it. Raises `ConfigurationError` for what is none of Python's."""
    module, _, name = named.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise ConfigurationError(
            f"--metadata {named} must read MODULE:NAME, such as app.models:metadata."
        )
    return module, name


def find(named: str) -> MetaData:
    """The metadata that is named so, imported as `env.py` will, from the working directory.

    Raises `ConfigurationError` where the module cannot be imported or has no such metadata.
    """
    module, name = parts_of(named)
    with _importable(), stdout_kept_clean():
        imported = _import(module, named)
    found: Any = imported
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, MetaData):
        return found
    reason = f"the module {module} has no {name}."
    if found is not None:
        reason = (
            f"{name} of the module {module} is no MetaData, but of type {type(found).__name__}."
        )
    raise ConfigurationError(f"--metadata {named}: {reason}{_others(imported)} {_INTACT}")


def _import(module: str, named: str) -> ModuleType:
    from orchestrator.revisions.script_errors import where  # imports Alembic

    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            reason = (
                f"there is no module {error.name}, neither in the working directory, {Path.cwd()}, "
                "nor installed"
            )
        else:
            file, line = where(error)
            reason = (
                f"the module {module} cannot be imported: {type(error).__name__}: "
                f"{told(error, NO_SECRETS)} ({file}, line {line})"
            )
        raise ConfigurationError(f"--metadata {named}: {reason}. {_INTACT}") from error


def _others(module: ModuleType) -> str:
    """What a module has instead: metadata, and base classes that have some."""
    names = [name for name, value in vars(module).items() if isinstance(value, MetaData)]
    names += [
        f"{name}.metadata"
        for name, value in vars(module).items()
        if isinstance(value, type)
        and isinstance(getattr(value, "metadata", None), MetaData)
        and not hasattr(value, "__table__")  # a model has its base's
    ]
    return f" There is {' and '.join(f'{module.__name__}:{name}' for name in names)}." * bool(names)


@contextmanager
def _importable() -> Iterator[None]:
    """Look for modules in the working directory first, as the `[tool.alembic]` table says."""
    from orchestrator.revisions.application_logging import host_logging_kept

    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with host_logging_kept():
            yield
    finally:
        sys.path.remove(here)
