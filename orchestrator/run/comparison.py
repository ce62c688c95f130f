"""By what the settings of two runs are compared, without telling anybody what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.databases.base import Database
from orchestrator.databases.secrets import without_secret
from orchestrator.settings import Settings


def settings_digest(settings: Settings, database: Database, attributes: Sequence[str]) -> str:
    """Stands for the database and for all that is set and decides what is done.

    `attributes` are those for `env.py`, as `name=value`. What may be secret is left out:
    whoever reads the digest could try passwords until one fits.
    """
    values = settings.deciding() | {
        "database_url": database.shown_url,
        "direct_url": None,  # or it is that database's
        "x_args": told_arguments(settings.x_args),
        "attributes": told_arguments(attributes),
    }
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def told_arguments(arguments: Sequence[str]) -> list[str]:
    """Arguments `name=value` without what is secret."""
    parted = (argument.partition("=") for argument in arguments)
    return [f"{name}{equals}{without_secret(name, value)}" for name, equals, value in parted]


def told_attributes(attributes: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Attributes as `name=value`; None where another process would not tell the same of them."""
    if not all(isinstance(value, str | int) for value in attributes.values()):
        return None
    return tuple(f"{name}={value!r}" for name, value in attributes.items())
