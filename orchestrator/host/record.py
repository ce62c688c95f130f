"""`run.json`: who runs now, and how the last run on this host ended.

Information for those who wait, and for people; never the lock. Whatever stands in the file,
or does not, a run is correct.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from orchestrator.host.directory import open_shared, replace_shared
from orchestrator.results import ErrorReport, Holder, to_jsonable

_VERSION: Final = 1
_SIZE_LIMIT: Final = 1_000_000
_TYPES: Final = {"pid": int, "exit_code": int, "scripts_failed": bool}
"""Of the values that are no texts."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One run as it tells of itself. `outcome` is None while it lasts.

    `fingerprint` stands for the scripts, and is None until they are found. `settings` stands for
    the settings that decide what is done, and is None where they cannot be compared.
    `scripts_failed` says that the error came of executing the scripts.
    """

    holder: Holder
    target: str
    settings: str | None = None
    fingerprint: str | None = None
    outcome: str | None = None
    error: ErrorReport | None = None
    scripts_failed: bool = False

    def at(
        self,
        *,
        task: str | None,
        revision: str | None,
        statement: str | None = None,
        blocked_by: str | None = None,
    ) -> Record:
        """The same run, at another piece of its work."""
        at = replace(
            self.holder,
            task=task,
            revision=revision,
            statement=statement,
            blocked_by=blocked_by,
        )
        return replace(self, holder=at)


class RecordFile:
    """The file; written by atomic replacement, so that a reader sees one record or another."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: Record | None = None

    def write(self, record: Record) -> None:
        """Replace the record if it has changed. Raises `OSError`."""
        if record == self._written:
            return
        replace_shared(self._path, json.dumps({"version": _VERSION, **to_jsonable(record)}))
        self._written = record

    def read(self) -> Record | None:
        """The record; None where there is none. Raises `ValueError` where it cannot be read."""
        try:
            with open(self._path, encoding="utf-8", opener=open_shared) as file:
                return _parse(json.loads(file.read(_SIZE_LIMIT)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{self._path} cannot be read as a record: {error!r}") from error


def _parse(values: dict[str, Any]) -> Record:
    if values["version"] != _VERSION:
        raise ValueError(f"version {values['version']!r} is not known")
    error, holder = values["error"], values["holder"]
    since = datetime.fromisoformat(holder["since"])
    if since.tzinfo is None:
        raise ValueError("`since` has no time zone")
    record = Record(
        holder=Holder(**{**holder, "since": since}),
        target=values["target"],
        settings=values.get("settings"),  # an older release's has none
        fingerprint=values["fingerprint"],
        outcome=values["outcome"],
        error=None if error is None else ErrorReport(**error),
        scripts_failed=values.get("scripts_failed", False),
    )
    for part in (record, record.holder, record.error):
        _check(part)
    return record


def _check(part: Record | Holder | ErrorReport | None) -> None:
    """Raise `ValueError` where a value is not what the field's name promises."""
    for field in fields(part) if part is not None else ():
        value = getattr(part, field.name)
        if field.name in ("holder", "error", "since"):
            continue
        wanted = _TYPES.get(field.name, str)
        optional = field.default is None
        if type(value) is not wanted and not (optional and value is None):
            raise ValueError(f"{field.name!r} is {value!r:.80}")
        if isinstance(value, str):
            value.encode()  # half a surrogate pair could not be told on
