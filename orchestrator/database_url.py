"""Database URLs: read, shown without their secrets, and told apart.

Pure: nothing here opens a file or a connection.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus, unquote, urlsplit

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from orchestrator.errors import ConfigurationError

_SECRET_KEY: Final = re.compile(r"pass|pwd|secret|token|key$", re.IGNORECASE)
_HIDDEN: Final = "***"


def parse(text: str) -> URL:
    """Read a URL that this library can work on.

    Raises `ConfigurationError` where it cannot be parsed, has an unknown dialect, is not
    SQLite, or is a SQLite database in memory.
    """
    try:
        url = make_url(text)
        url.get_dialect()
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"No SQLAlchemy dialect is installed for the database URL {redact(text)}. "
            "For SQLite, write sqlite:///path/to/file.db.",
            setting="database_url",
        ) from error
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(
            f"The database URL {redact(text)} cannot be parsed. "
            "It reads like sqlite:///path/to/file.db.",
            setting="database_url",
        ) from error
    except ImportError as error:
        raise _driver_missing(redact(url), error) from error
    if url.get_backend_name() != "sqlite":
        raise ConfigurationError(
            f"The database URL {redact(url)} is not SQLite, and only SQLite is supported so far.",
            setting="database_url",
            allowed=("sqlite",),
        )
    if sqlite_file(url) is None:
        raise ConfigurationError(
            f"The database URL {redact(url)} names a SQLite database in memory: no other "
            "process, and not even another connection, would see what was migrated. "
            "Use a file, such as sqlite:///var/app.db.",
            setting="database_url",
        )
    if url.username or url.password or url.host or url.port:
        raise ConfigurationError(
            f"The database URL {redact(url)} names a host or a user, which SQLite does not have. "
            "A relative file has three slashes, sqlite:///app.db, an absolute one four.",
            setting="database_url",
        )
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise _driver_missing(redact(url), error) from error
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

    A text that cannot be parsed may hold a password anywhere: all between `//` and the last
    `@` is left out, and so is the query.
    """
    if isinstance(url, str):
        url = _make_url(url) or url
    if isinstance(url, str):
        scheme, slashes, rest = url.partition("//")
        _, at, rest = (rest if slashes else scheme).rpartition("@")
        start = f"{scheme}//" if slashes else ""
        return f"{start}{_HIDDEN if at else ''}{at}{rest.partition('?')[0]}"
    query = {key: _HIDDEN if _SECRET_KEY.search(key) else value for key, value in url.query.items()}
    shown = url.set(query=query).render_as_string(hide_password=True)
    return unquote(shown) if url.get_backend_name() == "sqlite" else shown.replace("%2A", "*")


def _make_url(text: str) -> URL | None:
    """The URL, or None; with an unescaped `@` in the password, its end is taken for the host."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return None
    return None if "@" in (url.host or "") else url


def secrets(url: URL | str) -> tuple[str, ...]:
    """Every text that must not be shown, longest first, so that none is left in pieces.

    The password and secret query values, as written and as they are escaped in a URL.
    """
    if isinstance(url, str):
        parsed = _make_url(url)
        if parsed is None:
            return tuple(filter(None, (url.partition("//")[2].rpartition("@")[0],)))
        url = parsed
    plain = {str(url.password)} if url.password else set()
    for key, value in url.query.items():
        if _SECRET_KEY.search(key):
            plain.update((value,) if isinstance(value, str) else value)
    forms = {form for text in plain for form in (text, quote(text, ""), quote_plus(text))}
    return tuple(sorted(filter(None, forms), key=len, reverse=True))


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
    if url.query.get("uri") and database.startswith("file:"):
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
