"""The log: where the events of a run are told to people and to log collectors.

The host application owns global logging: nothing here configures anything. Importing structlog
costs more than a warm start, since it imports Rich where that is installed; so it is imported
only where its renderers are asked for, and used where the application has imported it itself.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

from orchestrator.events import Event, level_of, to_dict
from orchestrator.journal.writer import Origin
from orchestrator.run.broadcast import Sink
from orchestrator.run.milestones import Milestones
from orchestrator.settings import Log
from orchestrator.timeline.wording import listed, printable

_NAME: Final = "orchestrator"
_RUN: Final = ("at", "run_id", "sequence")


def log_sink(log: Log, origin: Callable[[], Origin]) -> Sink | None:
    """What tells the events of one run as the setting `log` says; None where nobody is told.

    With `auto` each event goes one way only: through structlog, if the application has
    configured that; else to the standard logger `orchestrator`, if a handler would get it; else
    a line a milestone to stderr. `origin` is asked for with each event: the database may not
    be known before a run has begun.
    """
    if log == "off":
        return None
    if log == "auto":
        return _of_structlog(origin) or _of_logging(origin) or _to_stderr()
    if sys.stderr is None:  # closed by who started this process
        return None
    return _JSONLines(sys.stderr, origin) if log == "json" else _Console(sys.stderr)


def _of_structlog(origin: Callable[[], Origin]) -> Sink | None:
    structlog = sys.modules.get("structlog")
    if structlog is None or not structlog.is_configured():
        return None
    try:
        bound = structlog.get_logger(_NAME).bind()
    except Exception:  # noqa: BLE001 - a factory or a wrapper of the application's own
        return None  # it cannot be had here: one for asyncio under trio, say
    return _Structlog(bound, origin)


def _of_logging(origin: Callable[[], Origin]) -> Sink | None:
    return _Logging(origin) if _is_heard() else None


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
    if stream is None:
        return None
    encoding = getattr(stream, "encoding", None) or "ascii"
    arrow = "→" if encoding.lower().startswith("utf") else "->"
    return Milestones(lambda line: _write(stream, f"{_NAME}: {printable(line)}\n"), arrow=arrow)


def _write(stream: TextIO, text: str) -> None:
    """Write to a stream that may be closed or full: words are lost, and nothing else."""
    try:
        encoding = getattr(stream, "encoding", None) or "ascii"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except (OSError, ValueError, LookupError):
        pass


class _Logging:
    """A sink: the standard logger `orchestrator`, one readable line an event."""

    def __init__(self, origin: Callable[[], Origin]) -> None:
        self._origin = origin

    def __call__(self, event: Event) -> None:
        logger = logging.getLogger(_NAME)
        level = logging.getLevelNamesMapping()[level_of(event).upper()]
        if not logger.isEnabledFor(level):
            return
        values = to_dict(event)
        name = values.pop("event")
        told = " ".join(f"{key}={_readable(value)}" for key, value in _own(values).items())
        fields = {"event": name, "database": self._origin().database, **values}
        logger.log(level, "%s %s", name, told, extra={_NAME: fields})


class _Structlog:
    """A sink: the application's own structlog, with the event's fields.

    The field `message` is called `error_message`: many configurations rename the event's name
    to that, and the standard library's records have one of their own.
    """

    def __init__(self, bound: Any, origin: Callable[[], Origin]) -> None:
        self._logger = getattr(bound, "sync_bl", bound)  # of structlog.stdlib.AsyncBoundLogger
        self._origin = origin

    def __call__(self, event: Event) -> None:
        values = to_dict(event)
        if "message" in values:
            values["error_message"] = values.pop("message")
        tell = getattr(self._logger, level_of(event))
        tell(values.pop("event"), database=self._origin().database, **values)


class _JSONLines:
    """A sink: one JSON object an event, with the fields that the journal has; all ASCII."""

    def __init__(self, stream: TextIO, origin: Callable[[], Origin]) -> None:
        self._stream = stream
        self._origin = origin

    def __call__(self, event: Event) -> None:
        entry = self._origin().entry(event)
        _write(self._stream, f"{json.dumps(entry, separators=(',', ':'))}\n")


class _Console:
    """A sink: one line an event for people, coloured on a terminal (https://no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        import structlog

        self._logger = structlog.wrap_logger(
            _Lines(stream),
            processors=[
                structlog.dev.ConsoleRenderer(
                    colors=_has_colours(stream), sort_keys=False, timestamp_key="at"
                )
            ],
            wrapper_class=structlog.BoundLogger,
        )

    def __call__(self, event: Event) -> None:
        values = to_dict(event)
        told = {name: _readable(value) for name, value in _own(values).items()}
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


def _has_colours(stream: TextIO) -> bool:
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    try:
        return not plain and stream.isatty()
    except (AttributeError, ValueError):  # something that only has `write`, or is closed
        return False


def _own(values: dict[str, Any]) -> dict[str, Any]:
    """What an event says besides its run and its moment, and says at all."""
    return {
        name: value
        for name, value in values.items()
        if name not in _RUN and value not in (None, "", [])
    }


def _readable(value: object) -> str:
    """One line without anything that a terminal acts on."""
    if isinstance(value, list):
        names = [item.get("revision", item) if isinstance(item, dict) else item for item in value]
        return listed(list(map(str, names)), separator=",")
    if isinstance(value, dict):  # the holder of a lock
        return printable(f"{value.get('host')}:{value.get('pid')}")
    if isinstance(value, float):
        return f"{value:.3f}"
    return printable(" ".join(str(value).split()))
