"""By what the settings of two runs are compared, without telling anybody what they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from sqlalchemy.engine import URL

from orchestrator.databases.base import Database
from orchestrator.databases.url import redact
from orchestrator.settings import Settings


def settings_digest(settings: Settings, database: Database, attributes: Sequence[str]) -> str:
    """Stands for the database and for all that is set and decides what is done.

    `attributes` are those for `env.py`, as `name=value`. What may be secret is left out:
    whoever reads the digest could try passwords until one fits.
    """
    values = settings.deciding() | {
        "database_url": database.shown_url,
        "x_args": [_without_secret(argument) for argument in settings.x_args],
        "attributes": [_without_secret(attribute) for attribute in attributes],
    }
    text = json.dumps(values, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _without_secret(argument: str) -> str:
    """An argument `name=value` without what its name, or a URL in it, say is secret."""
    name, _, value = argument.partition("=")
    shown = redact(value) if "://" in value else value
    return redact(URL.create("x", query={name: shown}))
