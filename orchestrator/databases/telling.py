"""How a session says in full who it is: in a comment of what it sends."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from typing import Final

from orchestrator.results import Holder, to_jsonable

TOLD: Final = "/* orchestrator "


def told_holder(holder: Holder) -> str:
    """Who it is, to be put before a query: for those who may read what the session sends."""
    return f"{TOLD}{json.dumps(to_jsonable(holder)).replace('/', chr(92) + '/')} */"


def read_told(query: str) -> Holder | None:
    """Who a query says that its session is; None of any other query."""
    if not query.startswith(TOLD):
        return None
    with suppress(ValueError, TypeError, KeyError):
        values = json.loads(query.removeprefix(TOLD).partition(" */")[0])
        names = {field.name for field in fields(Holder)}
        known = {name: value for name, value in values.items() if name in names}
        since = datetime.fromisoformat(known.pop("since")).astimezone(UTC)
        if all(isinstance(value, str | int | None) for value in known.values()):
            return Holder(**known, since=since)
    return None
