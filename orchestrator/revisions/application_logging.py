"""Keeps the host application's logging as it is while `env.py` runs.

The standard `env.py` calls `logging.config.fileConfig`, which replaces the root logger's
handlers and disables every logger that is not in its file.
"""

from __future__ import annotations

import logging
import logging.config
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
_thread: int | None = None


@contextmanager
def host_logging_kept() -> Iterator[None]:
    """Make configuring logging a no-op in this thread, and put back what was set by hand.

    Other threads configure logging as ever. Passes of `env.py` come one at a time, so that
    nothing is put back in the wrong order.
    """
    global _thread  # noqa: PLW0603 - the configurators of logging are globals, too
    before = {logger: _settings(logger) for logger in _loggers()}
    handlers = {handler for logger in before for handler in logger.handlers}
    handlers_before = {handler: _handler_settings(handler) for handler in handlers}
    disabled_level = logging.root.manager.disable
    codes = [(configurator, configurator.__code__) for configurator, _ in _CONFIGURATORS]
    _thread = threading.get_ident()
    try:
        for configurator, stand_in in _CONFIGURATORS:
            _originals[configurator.__name__] = _copy(configurator)
            # The code, not the name: applications import the function, before and elsewhere.
            configurator.__code__ = stand_in.__code__
        yield
    finally:
        for configurator, code in codes:
            configurator.__code__ = code
        _thread = None
        for logger, settings in before.items():
            if _settings(logger) != settings:
                _restore(logger, *settings)
        for handler, (level, formatter, filters) in handlers_before.items():
            handler.setLevel(level)
            handler.setFormatter(formatter)
            handler.filters[:] = filters
        logging.disable(disabled_level)


def configure_elsewhere(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What a configurator of logging does meanwhile: its work, unless `env.py` called it."""
    if threading.get_ident() == _thread:
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
