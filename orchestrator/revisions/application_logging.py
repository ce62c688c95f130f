"""Keeps the host application's logging as it is while scripts are loaded and `env.py` runs.

The standard `env.py` calls `logging.config.fileConfig`, which replaces the root logger's
handlers, closes every handler, and disables every logger that is not in its file. An application
that a script imports may configure loggers of its own, and check that it has.
"""

from __future__ import annotations

import logging
import logging.config
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType
from typing import Any, Final
from weakref import WeakValueDictionary


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
_DEFAULTS: Final = (logging.NOTSET, False, True, (), ())
"""The settings of a logger that nobody has configured."""
_originals: dict[str, Callable[..., Any]] = {}
_threads: list[int] = []
"""Those whose configuration is put back, each as often as it has said so."""
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
    """Let configuring logging in this thread touch new loggers only; put back what is set by hand.

    A logger that is made in the block keeps what it got there: its handlers, too. The module that
    gave them is executed once in a process, and may count on them later; and nobody of the host
    had that logger. One that was a placeholder has descendants, whose records the host gets, such
    as `alembic.runtime`: it has a logger's defaults again. Until the end of the block it keeps the
    handlers that a configurator gave it, since scripts may look for them.

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
        self._found = _Settings(_loggers())
        loggers = logging.root.manager.loggerDict.items()
        self._placeholders = [
            name for name, one in list(loggers) if not isinstance(one, logging.Logger)
        ]
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
        self._found.put_back()
        for logger in self._new_from_placeholders():
            _restore(logger, *_DEFAULTS)
        logging.disable(self._disabled_level)

    @contextmanager
    def put_back_at_once(self) -> Iterator[None]:
        """Undo what a configurator does in the block to those that were there before.

        Back to what they were just now: another thread may have configured them meanwhile.
        """
        with _handlers_hidden():
            found = self._found.loggers
            before = _Settings([logger for logger in _loggers() if logger in found])
            new = {logger: _settings(logger) for logger in _loggers() if logger not in found}
            try:
                yield
            finally:
                before.put_back()
                placeholders = self._new_from_placeholders()
                for logger in _loggers():
                    if logger in found:
                        continue
                    level, disabled, propagate, _, filters = new.get(logger, _DEFAULTS)
                    # A module of the host that a script is the first to import is not silenced
                    # because the configuration of the script does not name it.
                    logger.disabled = disabled
                    # Without handlers of its own it decides on nothing but what the host's get.
                    if not logger.handlers or logger in placeholders:
                        _restore(
                            logger, level, disabled, propagate, tuple(logger.handlers), filters
                        )

    def _new_from_placeholders(self) -> list[logging.Logger]:
        ones = [logging.root.manager.loggerDict.get(name) for name in self._placeholders]
        return [one for one in ones if isinstance(one, logging.Logger)]


class _Settings:
    """What these loggers have, and their handlers."""

    def __init__(self, loggers: list[logging.Logger]) -> None:
        self.loggers = {logger: _settings(logger) for logger in loggers}
        handlers = {handler for logger in loggers for handler in logger.handlers}
        self._handlers = {handler: _handler_settings(handler) for handler in handlers}

    def put_back(self) -> None:
        for logger, settings in self.loggers.items():
            if _settings(logger) != settings:
                _restore(logger, *settings)
        for handler, (level, formatter, filters) in self._handlers.items():
            handler.setLevel(level)
            handler.setFormatter(formatter)
            handler.filters[:] = filters


def configure_elsewhere(name: str, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What a configurator of logging does meanwhile: its work, of which a script's is put back."""
    kept = _kept
    if kept is None or threading.get_ident() not in _threads:
        return _originals[name](*args, **options)
    if name == "basicConfig":
        # It configures the root logger and nothing else, and by `force` closes its handlers.
        stand_in = {**vars(logging), "root": logging.RootLogger(logging.WARNING)}
        return _copy(_originals[name], stand_in)(*args, **options)
    if name == "fileConfig" and (args[0] if args else options.get("fname", "")) is None:
        return None  # `config.config_file_name` where settings take the place of an alembic.ini
    with kept.put_back_at_once():
        return _originals[name](*args, **options)


@contextmanager
def _handlers_hidden() -> Iterator[None]:
    """Hide the handlers that exist from a configurator, which would close all of them.

    By their two registers, in Python 3.11 to 3.13; what is new is entered in them afterwards. The
    objects stay the same: at its exit the process flushes what is in that very list.
    """
    module: Any = logging
    with module._lock:
        names, references = module._handlers, module._handlerList
        # A copy, since an incremental configuration asks for handlers by name.
        module._handlers, module._handlerList = WeakValueDictionary(names), []
        try:
            yield
        finally:
            for name, handler in list(module._handlers.items()):
                names.setdefault(name, handler)
            references.extend(module._handlerList)
            module._handlers, module._handlerList = names, references


def _copy(function: Callable[..., Any], names: dict[str, Any] | None = None) -> Callable[..., Any]:
    code: CodeType = function.__code__
    copy = FunctionType(
        code, names or function.__globals__, function.__name__, function.__defaults__
    )
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
