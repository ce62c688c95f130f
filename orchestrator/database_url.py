"""Database URLs: read, shown without their secrets, and told apart.

Pure: nothing here opens a file or a connection.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from orchestrator.errors import ConfigurationError

_SECRET_KEY: Final = re.compile(r"pass|pwd|secret|token|key$", re.IGNORECASE)
_SCHEME: Final = re.compile(r"[\w.+-]+://")
_TRUE: Final = ("true", "yes", "on", "y", "t", "1")  # as SQLAlchemy reads a query's `uri`
_HIDDEN: Final = "***"


def parse(text: str) -> URL:
    """Read a URL that this library can work on.

    Raises `ConfigurationError` where it cannot be parsed, has an unknown dialect, is not
    SQLite, or is a SQLite database in memory.
    """
    try:
        url = make_url(text)
        url.get_dialect()
        in_memory = sqlite_file(url) is None
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"No SQLAlchemy dialect is installed for the database URL {redact(text)}. "
            "For SQLite, write sqlite:///path/to/file.db.",
            setting="database_url",
        ) from error
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            f"The database URL {redact(text)} cannot be parsed. "
            "It reads like sqlite:///path/to/file.db.",
            setting="database_url",
        ) from None  # its text may hold what was taken for a port, and is the password
    except ImportError as error:
        raise _driver_missing(redact(text), error) from error
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"The database URL {redact(text)} is not SQLite, and only SQLite is supported so far.",
            setting="database_url",
            allowed=("sqlite",),
        )
    if url.username or url.password or url.host or url.port:
        raise ConfigurationError(
            f"The database URL {redact(text)} names a host or a user, which SQLite does not have. "
            "A relative file has three slashes, sqlite:///app.db, an absolute one four.",
            setting="database_url",
        )
    if in_memory:
        raise ConfigurationError(
            f"The database URL {redact(text)} names a SQLite database in memory: no other "
            "process, and not even another connection, would see what was migrated. "
            "Use a file, such as sqlite:///var/app.db.",
            setting="database_url",
        )
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise _driver_missing(redact(text), error) from error
    return url


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
    if isinstance(url, str):
        scheme = _SCHEME.match(url)
        start = scheme.group() if scheme else ""
        rest = url.removeprefix(start)
        return start + (_HIDDEN if "@" in rest or ":" in rest else rest.partition("?")[0])
    query = {key: _HIDDEN if _SECRET_KEY.search(key) else value for key, value in url.query.items()}
    shown = url.set(query=query).render_as_string(hide_password=True)
    return unquote(shown) if url.get_backend_name() == "sqlite" else shown.replace("%2A", "*")


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
    if url.get_backend_name() == "sqlite" and not named and not url.host:
        return url  # the name of a file may hold anything
    return url if text.count("@") == named else None


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
    escaped = (partial(quote, safe=""), partial(quote, safe=" +"), quote_plus)
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


def sqlite_file(url: URL) -> Path | None:
    """The absolute path of a SQLite database's file; None where it is in memory.

    Like SQLite's own driver: relative to the working directory. With `uri=true` the database
    is a `file:` URI (https://www.sqlite.org/uri.html).
    """
    database = url.database or ""
    if url.query.get("mode") == "memory" or database in ("", ":memory:"):
        return None
    if str(url.query.get("uri")).lower() in _TRUE and database.startswith("file:"):
        parts = urlsplit(database)
        database = unquote(parts.path)
        if database in ("", ":memory:") or "mode=memory" in parts.query:
            return None
    return Path(os.path.abspath(database))


def synchronous(url: URL) -> URL:
    """The same database by a synchronous driver, for connections of our own."""
    return url.set(drivername="sqlite") if url.get_backend_name() == "sqlite" else url


def identity(url: URL) -> str:
    """The same text for every URL of the same database, whatever its driver and its user."""
    file = sqlite_file(url) if url.get_backend_name() == "sqlite" else None
    if file is not None:
        return f"sqlite:{os.path.realpath(file)}"
    return f"{url.get_backend_name()}:{url.host or ''}:{url.port or ''}/{url.database or ''}"


def same_database(one: URL, other: URL) -> bool:
    """Whether two URLs name the same database."""
    return identity(one) == identity(other)
