"""How `orchestrator logs` says what it found, or why it found nothing."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from orchestrator.journal.reader import Tally
from orchestrator.timeline.wording import count, printable


def console() -> Console:
    """For what people read, on stdout: nothing in a text is markup, nothing is highlighted."""
    return Console(highlight=False, markup=False, emoji=False)


def ascii_only(shown_on: Console) -> bool:
    """Whether the terminal cannot show more than ASCII."""
    return not shown_on.encoding.lower().startswith("utf")


def print_json(document: Mapping[str, Any]) -> None:
    """One document on stdout."""
    print(json.dumps(plain(document), indent=2, allow_nan=False))


def json_line(values: Mapping[str, Any]) -> str:
    """One object in one line, all ASCII, so that it cannot drive a terminal either."""
    return json.dumps(plain(values), separators=(",", ":"), allow_nan=False)


def plain(value: Any) -> Any:
    """The value with null in the place of numbers that JSON does not have."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def tell(message: str) -> None:
    """A diagnostic, on stderr."""
    print(message, file=sys.stderr, flush=True)


def tell_nothing_found(what: str, journals: str) -> None:
    """Say where it was looked, and how to look elsewhere."""
    tell(f"No {what} in {printable(journals)}. Name another journal with --journal FILE.")


def tell_unreadable(tally: Tally) -> None:
    """Say how many lines were passed over, if any."""
    if tally.unreadable_lines:
        tell(count(tally.unreadable_lines, "unreadable line"))
