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
from functools import wraps
from typing import Any, Final

_CONFIGURATORS: Final = (
    (logging.config, "fileConfig"),
    (logging.config, "dictConfig"),
    (logging, "basicConfig"),
)


@contextmanager
def host_logging_kept() -> Iterator[None]:
    """Make configuring logging a no-op in this thread, and put back what was set by hand.

    Other threads configure logging as ever. Passes of `env.py` come one at a time, so that
    nothing is put back in the wrong order.
    """
    thread = threading.get_ident()
    originals = [(module, name, getattr(module, name)) for module, name in _CONFIGURATORS]
    before = {logger: _settings(logger) for logger in _loggers()}
    handler_levels = {handler: handler.level for logger in before for handler in logger.handlers}
    try:
        for module, name, original in originals:
            setattr(module, name, _except_in(thread, original))
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
        for logger, settings in before.items():
            if _settings(logger) != settings:
                level, logger.disabled, logger.propagate, handlers = settings
                logger.handlers[:] = handlers
                logger.setLevel(level)
        for handler, level in handler_levels.items():
            if handler.level != level:
                handler.setLevel(level)


def _loggers() -> list[logging.Logger]:
    named = list(logging.root.manager.loggerDict.values())
    return [logging.root, *(logger for logger in named if isinstance(logger, logging.Logger))]


def _settings(logger: logging.Logger) -> tuple[int, bool, bool, tuple[logging.Handler, ...]]:
    return logger.level, logger.disabled, logger.propagate, tuple(logger.handlers)


def _except_in(thread: int, configure: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(configure)
    def configure_elsewhere(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return configure(*args, **kwargs)
        return None

    return configure_elsewhere
