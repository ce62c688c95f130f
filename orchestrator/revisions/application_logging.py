"""Keeps the host application's logging as it is while scripts are loaded and `env.py` runs.

The standard `env.py` calls `logging.config.fileConfig`, which replaces the root logger's
handlers and disables every logger that is not in its file.
"""

from __future__ import annotations

import logging
import logging.config
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any


def _file_config(*args: Any, **options: Any) -> Any:
    from orchestrator.revisions.application_logging import configure_elsewhere

    return configure_elsewhere("fileConfig", args, options)


def _dict_config(*args: Any, **options: Any) -> Any:
    from orchestrator.revisions.application_logging import configure_elsewhere

    return configure_elsewhere("dictConfig", args, options)


def _basic_config(*args: Any, **options: Any) -> Any:
    from orchestrator.revisions.application_logging import configure_elsewhere

    return configure_elsewhere("basicConfig", args, options)


_CONFIGURATORS = (
    (logging.config.fileConfig, _file_config),
    (logging.config.dictConfig, _dict_config),
    (logging.basicConfig, _basic_config),
)
_originals: dict[str, Callable[..., Any]] = {}
_threads: list[int] = []
"""Those that configure nothing, each as often as it has said so."""
_kept: _Kept | None = None
_entering = threading.Lock()


def _renew_lock() -> None:
    """A child that is forked while another thread enters has none that would free its copy."""
    global _entering  # noqa: PLW0603 - the child's own
    _entering = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def host_logging_kept() -> Iterator[None]:
    """Make configuring logging a no-op in this thread, and put back what was set by hand.

    Other threads configure logging as ever. Of several that are in such a block at once the
    last one puts back what the first one found.
    """
    global _kept  # noqa: PLW0603 - the configurators of logging are globals, too
    thread = threading.get_ident()
    with _entering:
        _kept = _kept or _Kept()
        _threads.append(thread)
    try:
        yield
    finally:
        with _entering:
            _threads.remove(thread)
            if not _threads:
                _kept.put_back()
                _kept = None


class _Kept:
    """Logging as it was found; while this lasts, the configurators ask who calls them."""

    def __init__(self) -> None:
        self._loggers = {logger: _settings(logger) for logger in _loggers()}
        handlers = {handler for logger in self._loggers for handler in logger.handlers}
        self._handlers = {handler: _handler_settings(handler) for handler in handlers}
        self._disabled_level = logging.root.manager.disable
        self._codes = [(configurator, configurator.__code__) for configurator, _ in _CONFIGURATORS]
        for configurator, stand_in in _CONFIGURATORS:
            _originals[configurator.__name__] = _copy(configurator)
            # The code, not the name: applications import the function, before and elsewhere.
            configurator.__code__ = stand_in.__code__

    def put_back(self) -> None:
        """Let logging be as it was."""
        for configurator, code in self._codes:
            configurator.__code__ = code
        for logger, settings in self._loggers.items():
            if _settings(logger) != settings:
                _restore(logger, *settings)
        for handler, (level, formatter, filters) in self._handlers.items():
            handler.setLevel(level)
            handler.setFormatter(formatter)
            handler.filters[:] = filters
        logging.disable(self._disabled_level)


def configure_elsewhere(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What a configurator of logging does meanwhile: its work, unless a script called it."""
    if threading.get_ident() in _threads:
        return None
    return _originals[name](*args, **options)


def _copy(function: Callable[..., Any]) -> Callable[..., Any]:
    code: CodeType = function.__code__
    copy = FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


def _loggers() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


def _settings(logger: logging.Logger) -> tuple[Any, ...]:
    handlers, filters = tuple(logger.handlers), tuple(logger.filters)
    return logger.level, logger.disabled, logger.propagate, handlers, filters


def _restore(
    logger: logging.Logger,
    level: int,
    disabled: bool,
    propagate: bool,
    handlers: tuple[logging.Handler, ...],
    filters: tuple[Any, ...],
) -> None:
    logger.disabled, logger.propagate = disabled, propagate
    logger.handlers[:], logger.filters[:] = handlers, filters
    logger.setLevel(level)


def _handler_settings(handler: logging.Handler) -> tuple[Any, ...]:
    return handler.level, handler.formatter, tuple(handler.filters)
