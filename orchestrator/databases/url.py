"""Database URLs: read, and shown without their secrets.

Pure: nothing here opens a file or a connection.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from orchestrator.errors import ConfigurationError

_SECRET_KEY: Final = re.compile(r"pass|pwd|secret|token|key$", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[\w.+-]+://")
_HIDDEN: Final = "***"
_FILES: Final = ("sqlite",)
"""Dialects whose URL names a file, and neither a server nor a user."""

EXAMPLE: Final = "sqlite:///var/app.db"
"""A URL, for messages and help."""


def parse(text: str) -> URL:
    """Read a URL.

    Raises `ConfigurationError` where it cannot be parsed, or its dialect is not installed.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: an argument or a variable whose bytes were no UTF-8.
        raise ConfigurationError(
            "The database URL cannot be parsed: it is not UTF-8.",
            setting="database_url",
        ) from None
    try:
        url = make_url(text)
        url.get_dialect()
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"No SQLAlchemy dialect is installed for the database URL {redact(text)}. "
            f"A URL reads like {EXAMPLE}.",
            setting="database_url",
        ) from error
    except (ArgumentError, ValueError):
        # Not from it: its text may hold what was taken for a port, and is the password.
        raise unreadable_url(text) from None
    except ImportError as error:
        raise _driver_missing(redact(text), error) from error
    return url


def require_driver(url: URL) -> None:
    """Raise `ConfigurationError`, with what to install, where the URL's driver is missing."""
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise _driver_missing(redact(url), error) from error


def unreadable_url(url: URL | str) -> ConfigurationError:
    """What to say of a URL that cannot be parsed."""
    return ConfigurationError(
        f"The database URL {redact(url)} cannot be parsed. It reads like {EXAMPLE}.",
        setting="database_url",
    )


def unknown_url(reason: str = "") -> ConfigurationError:
    """What to say where no URL is named; `reason` is why it could not be found out either."""
    return ConfigurationError(
        "No database URL is known. Set `database_url` (or --database-url, "
        f"ORCHESTRATOR_DATABASE_URL, DATABASE_URL), such as {EXAMPLE}.{reason}",
        setting="database_url",
    )


def _driver_missing(shown: str, error: ImportError) -> ConfigurationError:
    package = error.name or str(error)
    return ConfigurationError(
        f"The driver for the database URL {shown} is not installed: "
        f"install it with `pip install {package}`.",
        setting="database_url",
    )


def redact(url: URL | str) -> str:
    """Show a URL without its password and without secrets in its query.

    A text that cannot be parsed may hold a password anywhere: with an `@` or a `:` in it, no
    more than its scheme is shown.
    """
    if isinstance(url, str):
        url = _make_url(url) or url
    if isinstance(url, URL) and _may_lack_host(url):
        return f"{url.drivername}://{_HIDDEN}"
    if isinstance(url, str):
        scheme = _SCHEME.match(url)
        start = scheme.group() if scheme else ""
        rest = url.removeprefix(start)
        return start + (_HIDDEN if "@" in rest or ":" in rest else rest.partition("?")[0])
    query = {key: _HIDDEN if _SECRET_KEY.search(key) else value for key, value in url.query.items()}
    shown = url.set(query=query).render_as_string(hide_password=True)
    return unquote(shown) if url.get_backend_name() in _FILES else shown.replace("%2A", "*")


def _make_url(text: str) -> URL | None:
    """The URL; None where it cannot be parsed, or not in the way in which it was meant.

    With an unescaped `@`, `/` or `?` before the host, a part of the password is taken for the
    host, the database or the query.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return None
    named = url.username is not None or url.password is not None
    if url.get_backend_name() in _FILES and not named and not url.host:
        return url  # the name of a file may hold anything
    return url if text.count("@") == named and not _may_lack_host(url) else None


def _may_lack_host(url: URL) -> bool:
    """Whether what reads as the host or the port may be of a password, the host forgotten.

    Nobody can tell a user and a password from a host and a port, nor a host from what follows
    an unescaped `@`. A URL that goes on to name a database has not been cut off there.
    """
    return not url.database and (url.port is not None or url.password is not None)


def secrets(url: URL | str) -> tuple[str, ...]:
    """Every text that must not be shown, longest first, so that none is left in pieces.

    The password and secret query values, as written and in all the ways of escaping them.
    """
    parsed = _make_url(url) if isinstance(url, str) else url
    plain: set[str] = _as_written(url, parsed) if isinstance(url, str) else set()
    if parsed is not None:
        plain.add(str(parsed.password or ""))
        for key, value in parsed.query.items():
            if _SECRET_KEY.search(key):
                plain.update((value,) if isinstance(value, str) else value)
    # SQLAlchemy itself leaves a space and a plus as they are.
    escaped = (
        partial(quote, safe="", errors="surrogateescape"),
        partial(quote, safe=" +", errors="surrogateescape"),
        partial(quote_plus, errors="surrogateescape"),
    )
    forms = plain | {escape(text) for text in plain for escape in escaped}
    forms |= {form.replace("%", "%%") for form in forms} | {repr(form)[1:-1] for form in forms}
    return tuple(sorted(filter(None, forms), key=len, reverse=True))


def _as_written(text: str, parsed: URL | None) -> set[str]:
    rest = text.partition("//")[2] or text
    user_and_password, at, _ = rest.rpartition("@")
    if parsed is None:
        if not at and ":" not in rest:
            return set()
        user_and_password = user_and_password or rest
        return {user_and_password, user_and_password.partition(":")[2]}
    pairs = (pair.partition("=") for pair in rest.partition("?")[2].split("&"))
    written = {value for key, _, value in pairs if _SECRET_KEY.search(unquote(key))}
    return written | {user_and_password.partition(":")[2]} if parsed.password else written


def hide(text: str, url: URL | str) -> str:
    """The text without the secrets of the URL."""
    for secret in secrets(url):
        text = text.replace(secret, _HIDDEN)
    return text
