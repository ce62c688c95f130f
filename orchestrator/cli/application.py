"""The orchestrator that an application has in its code, found by the name of either."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from types import ModuleType
from typing import Any, Final

from orchestrator.cli.output import stdout_kept_clean
from orchestrator.databases.secrets import redacted
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.orchestrator import Orchestrator

_DEPTH: Final = 8
"""How many functions deep one is looked for in a lifespan: wrapped and merged ones."""


def orchestrator_of(name: str, where: str) -> Orchestrator:
    """The orchestrator that `module:object` is, or that the application there has.

    A factory is called. Modules are looked for in the working directory first, as ASGI servers
    do. An application is asked for its `orchestrator`, as a gate has one, else for its lifespan; in
    that, what it refers to. `where` is how the name was given, for messages.

    Raises `ConfigurationError`.
    """
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise _error(f"{where} must read MODULE:OBJECT, such as main:app.")
    with stdout_kept_clean():
        # Brackets, as one server has them, say the same: a factory is called.
        found = _object(module, path.removesuffix("()"), where)
        if inspect.isroutine(found) or isinstance(found, functools.partial):
            found = _made_by(found, where)
    candidates = [found] if isinstance(found, Orchestrator) else list(_held_by(found))
    if len(candidates) == 1:
        return candidates[0]
    number = "several orchestrators" if candidates else "no orchestrator that can be seen from here"
    raise _error(
        f"{where} has {number}. Name the `Orchestrator` itself, as a global of its module: "
        f"such as {module}:orchestrator."
    )


def _object(module: str, path: str, where: str) -> Any:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing and f"{module}.".startswith(f"{missing}."):
            raise _error(
                f"{where}: there is no module {missing} in {here}, nor elsewhere that Python "
                "looks in."
            ) from error
        raise _failed(f"{where}: {module} cannot be imported", error) from error
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise _error(f"{where}: {module} has no `{path}`.{_perhaps(found)}") from error
    return found


def _perhaps(module: Any) -> str:
    """What may have been meant: the applications, orchestrators and factories that are there."""
    if not isinstance(module, ModuleType):
        return ""
    names = [
        name
        for name, value in vars(module).items()
        if isinstance(value, Orchestrator)
        or hasattr(value, "router")
        or isinstance(getattr(value, "orchestrator", None), Orchestrator)
        or (inspect.isfunction(value) and "app" in name and value.__module__ == module.__name__)
    ]
    return f" It has {', '.join(f'`{name}`' for name in names)}." if names else ""


def _made_by(factory: Any, where: str) -> Any:
    try:
        return factory()
    except (Exception, SystemExit) as error:
        raise _failed(f"{where} is a factory, and it failed when it was called", error) from error


def _held_by(application: Any) -> Iterator[Orchestrator]:
    """Every orchestrator that an application has or its lifespan refers to, each once."""
    own = getattr(application, "orchestrator", None)  # a gate has one
    if isinstance(own, Orchestrator):
        yield own
        return
    router = getattr(application, "router", application)
    seen: set[int] = set()
    waiting = [(getattr(router, "lifespan_context", None), 0)]
    for middleware in getattr(application, "user_middleware", ()):  # Starlette's; a gate is one
        given = getattr(middleware, "kwargs", {}).values()
        waiting.extend((one, 0) for one in given if isinstance(one, Orchestrator))
    while waiting:
        one, depth = waiting.pop()
        if id(one) in seen or depth > _DEPTH:
            continue
        seen.add(id(one))
        if isinstance(one, Orchestrator):
            yield one
        else:
            waiting.extend((inner, depth + 1) for inner in _referred_to(one))


def _referred_to(one: Any) -> Iterator[Any]:
    """What a function refers to: its closure, the globals that it names, what it wraps."""
    if isinstance(one, functools.partial):
        yield from (one.func, *one.args, *one.keywords.values())
    elif inspect.ismethod(one):
        yield from (one.__func__, *vars(one.__self__).values())
    elif inspect.isfunction(one):
        if (wrapped := getattr(one, "__wrapped__", None)) is not None:
            yield wrapped
        for cell in one.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # it has no value yet
                continue
        named = set(one.__code__.co_names)
        yield from (
            value
            for name, value in one.__globals__.items()
            if name in named and (isinstance(value, Orchestrator) or inspect.isfunction(value))
        )


def _failed(what: str, error: BaseException) -> ConfigurationError:
    if isinstance(error, OrchestratorError):  # it has words of its own
        return _error(f"{what}: {redacted(str(error))}")
    last = traceback.extract_tb(error.__traceback__)[-1]
    place = f" ({last.filename}, line {last.lineno})" if last.filename != __file__ else ""
    return _error(f"{what}: {type(error).__name__}: {redacted(str(error))}{place}.")


def _error(message: str) -> ConfigurationError:
    return ConfigurationError(message, setting="app", source="app")
