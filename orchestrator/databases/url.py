"""Database URLs: read, and shown without their secrets.

Pure: nothing here opens a file or a connection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from orchestrator.databases.secrets import HIDDEN, Secrets, is_secret, redacted, secrets_in
from orchestrator.errors import ConfigurationError, by_setting

_SCHEME: Final = re.compile(r"[\w.+-]+://")
_FILES: Final = ("sqlite",)
"""Dialects whose URL names a file, and neither a server nor a user."""

_SHORT: Final = "postgres://"
"""As many platforms write it, and SQLAlchemy has not known it since 1.4."""

_FILE_ONLY: Final = re.compile(r"sqlite(\+\w+)?:/?[^/:@?&=][^:@?&=]*")
"""A URL of a file with too few slashes, in which no password can be."""

EXAMPLE: Final = "sqlite:///var/app.db"
"""A URL, for messages and help."""
_SERVER_EXAMPLE: Final = "postgresql+psycopg://user@host/name, mysql+pymysql://user@host/name"
_PACKAGES: Final = {
    "MySQLdb": "mysqlclient",
    "psycopg": "'psycopg[binary]'",
    "psycopg2": "psycopg2-binary",
}
"""Those whose name is not that of the module."""


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
    if text.startswith(_SHORT):
        text = text.replace("postgres", "postgresql", 1)
    try:
        url = make_url(text)
        url.get_dialect()
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"No SQLAlchemy dialect is installed for the database URL {redact(text)}. "
            f"A URL reads like {EXAMPLE} or {_SERVER_EXAMPLE}.",
            setting="database_url",
        ) from error
    except (ArgumentError, ValueError):
        # Not from it: its text may hold what was taken for a port, and is the password.
        raise unreadable_url(text) from None
    except ImportError as error:
        raise _driver_missing(redact(text), error) from error
    if url.host and text.partition("?")[0].count("@") > 1:
        # A piece of the password would be the host, which drivers tell.
        raise unreadable_url(text)
    return url


def require_driver(url: URL) -> None:
    """Raise `ConfigurationError`, with what to install, where the URL's driver is missing."""
    try:
        url.get_dialect().import_dbapi()
    except ImportError as error:
        raise _driver_missing(redact(url), error) from error


def unreadable_url(url: URL | str) -> ConfigurationError:
    """What to say of a URL that cannot be parsed."""
    written = (
        "In a user, a password or a name, `@` is written `%40`, `/` `%2F`, `:` `%3A` and `%` `%25`."
    )
    if isinstance(url, str) and _FILE_ONLY.fullmatch(url):
        written = "Behind `sqlite:` stand three slashes, and a fourth before an absolute path."
    return ConfigurationError(
        f"The database URL {redact(url)} cannot be parsed. It reads like {EXAMPLE}. {written}",
        setting="database_url",
    )


def unknown_url(reason: str = "") -> ConfigurationError:
    """What to say where no URL is named; `reason` is why it could not be found out either."""
    return ConfigurationError(
        f"No database URL is known. Set {by_setting('database_url')}, or DATABASE_URL, such as "
        f"{EXAMPLE}; or, where the application's code has it, {by_setting('app')}.{reason}",
        setting="database_url",
    )


def _driver_missing(shown: str, error: ImportError) -> ConfigurationError:
    module = error.name or str(error)
    package = _PACKAGES.get(module, module)
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
        return f"{url.drivername}://{HIDDEN}"
    if isinstance(url, str):
        if _FILE_ONLY.fullmatch(url):
            return url
        scheme = _SCHEME.match(url)
        start = scheme.group() if scheme else ""
        rest = url.removeprefix(start)
        return start + (HIDDEN if "@" in rest or ":" in rest else rest.partition("?")[0])
    query: dict[str, list[str]] = {}
    for key, value in _parameters(url):
        query.setdefault(key, []).append(HIDDEN if is_secret(key) else redacted(value))
    shown = url.set(query=query).render_as_string(hide_password=True)
    return unquote(shown) if url.get_backend_name() in _FILES else shown.replace("%2A", "*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """What a URL names, without whom and without secrets; `system` is the kind of database."""

    system: str
    database: str | None
    host: str | None
    port: int | None


def place_of(text: str) -> Place:
    """What a URL names. Raises `ConfigurationError` as `parse` does."""
    url = parse(text)
    return Place(system=url.get_backend_name(), database=url.database, host=url.host, port=url.port)


def secrets_of(url: URL) -> Secrets:
    """What must not be shown of a URL, in whatever text: its password and secret parameters."""
    known = {str(url.password or "")}
    shown = {*url.drivername.split("+"), url.drivername, url.username, url.database}
    for key, value in _parameters(url):
        hidden = {value} if is_secret(key) else secrets_in(value)
        known |= hidden
        shown |= set() if hidden else {value}
    if not _may_lack_host(url):
        shown |= {url.host, str(url.port or "")}
    elif url.password is None:  # then what reads as the port may be it
        known.add(str(url.port))
    return Secrets(frozenset(filter(None, known)), frozenset(filter(None, shown)))


def _parameters(url: URL) -> Iterator[tuple[str, str]]:
    for key, value in url.query.items():
        for one in (value,) if isinstance(value, str) else value:
            yield key, one


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
