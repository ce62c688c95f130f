"""The log: where the events of a run are told to people and to log collectors.

The host application owns global logging: nothing here configures anything. Importing structlog
costs more than a warm start, since it imports Rich where that is installed; so it is imported
only where its renderers are asked for, and used where the application has imported it itself.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO

from orchestrator.events import Event, level_of, to_dict
from orchestrator.journal.writer import Origin, encode
from orchestrator.run.broadcast import Sink
from orchestrator.run.milestones import Milestones

_NAME: Final = "orchestrator"
_RUN: Final = ("at", "run_id", "sequence")

Log = Literal["auto", "console", "json", "off"]


def log_sink(log: Log, origin: Callable[[], Origin]) -> Sink | None:
    """What tells the events of one run as the setting `log` says; None where nobody is told.

    With `auto` each event goes one way only: through structlog, if the application has
    configured that; else to the standard logger `orchestrator`, if a handler would get it; else
    a line a milestone to stderr. `origin` is asked for with each event: the database may not
    be known before a run has begun.
    """
    match log:
        case "off":
            return None
        case "json" if sys.stderr is not None:
            return _JSONLines(sys.stderr, origin)
        case "console" if sys.stderr is not None:
            return _Console(sys.stderr)
        case "auto":
            return _of_application() or _to_stderr()
        case _:
            return None


def log_to_host(event: Event) -> None:
    """A sink: the standard logger `orchestrator`, one readable line an event."""
    logger = logging.getLogger(_NAME)
    level = logging.getLevelNamesMapping()[level_of(event).upper()]
    if not logger.isEnabledFor(level):
        return
    values = to_dict(event)
    name = values.pop("event")
    told = " ".join(
        f"{key}={_readable(value)}"
        for key, value in values.items()
        if key not in _RUN and value not in (None, [])
    )
    logger.log(level, "%s %s", name, told, extra={_NAME: {"event": name, **values}})


def _of_application() -> Sink | None:
    structlog = sys.modules.get("structlog")
    if structlog is not None and structlog.is_configured():
        return _Structlog(structlog.get_logger(_NAME))
    return log_to_host if _is_heard() else None


def _is_heard() -> bool:
    """Whether a handler gets what is logged as `orchestrator`; makes no such logger.

    A logger that exists when the application configures logging would be disabled by that
    (`disable_existing_loggers`), without anybody's meaning it.
    """
    known = logging.root.manager.loggerDict.get(_NAME)
    logger: logging.Logger | None = known if isinstance(known, logging.Logger) else logging.root
    if logger is None or logger.disabled:
        return False
    while logger is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return True
        logger = logger.parent if logger.propagate else None
    return False


def _to_stderr() -> Sink | None:
    stream = sys.stderr
    if stream is None:  # closed by who started this process
        return None
    try:
        "→".encode(stream.encoding or "ascii")
        arrow = "→"
    except (UnicodeError, LookupError):
        arrow = "->"
    return Milestones(lambda line: _write(stream, f"orchestrator: {line}\n"), arrow=arrow)


def _write(stream: TextIO, text: str) -> None:
    """Write to a stream that may be closed or full: words are lost, and nothing else."""
    try:
        stream.write(text)
        stream.flush()
    except (OSError, ValueError):
        pass


class _Structlog:
    """A sink: the application's own structlog, with the event's fields."""

    def __init__(self, logger: Any) -> None:
        bound = logger.bind()
        self._logger = getattr(bound, "sync_bl", bound)  # of structlog.stdlib.AsyncBoundLogger

    def __call__(self, event: Event) -> None:
        values = to_dict(event)
        getattr(self._logger, level_of(event))(values.pop("event"), **values)


class _JSONLines:
    """A sink: one JSON object an event, with the fields that the journal has."""

    def __init__(self, stream: TextIO, origin: Callable[[], Origin]) -> None:
        import structlog

        self._origin = origin
        self._logger = structlog.wrap_logger(
            _Lines(stream),
            processors=[structlog.processors.JSONRenderer(serializer=_dumps)],
            wrapper_class=structlog.BoundLogger,
        )

    def __call__(self, event: Event) -> None:
        values = self._origin().entry(event)
        getattr(self._logger, level_of(event))(values.pop("event"), **values)


class _Console:
    """A sink: one line an event for people, coloured on a terminal."""

    def __init__(self, stream: TextIO) -> None:
        import structlog

        self._logger = structlog.wrap_logger(
            _Lines(stream),
            processors=[
                structlog.dev.ConsoleRenderer(
                    colors=stream.isatty(), sort_keys=False, timestamp_key="at"
                )
            ],
            wrapper_class=structlog.BoundLogger,
        )

    def __call__(self, event: Event) -> None:
        values = {name: value for name, value in to_dict(event).items() if value not in (None, [])}
        told = {name: _readable(value) for name, value in values.items() if name not in _RUN}
        name, level = told.pop("event"), level_of(event)
        getattr(self._logger, level)(name, at=values["at"], level=level, **told)


class _Lines:
    """A logger in structlog's sense, whose every message is one line of a stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, message: str) -> None:
        """Write a line."""
        _write(self._stream, f"{message}\n")

    info = warning = error = msg


def _dumps(values: dict[str, Any], **_: Any) -> str:
    ordered = {"at": values.pop("at"), "event": values.pop("event"), **values}
    return encode(ordered).decode(errors="replace").rstrip("\n")


def _readable(value: object) -> str:
    """One line, so that a failure is named before any traceback."""
    if isinstance(value, list):
        return ",".join(
            str(item.get("revision", item)) if isinstance(item, dict) else str(item)
            for item in value
        )
    if isinstance(value, float):
        return f"{value:.3f}"
    return " ".join(str(value).split())
