"""Database URLs: what is refused, what is shown, and which are the same database."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from orchestrator.database_url import (
    hide,
    identity,
    parse,
    redact,
    same_database,
    secrets,
    sqlite_file,
    synchronous,
)
from orchestrator.errors import ConfigurationError

SHOWN = "postgresql+psycopg://user:***@host.example:5432/database sqlite:///app.db?uri=true&token="
awkward = st.text(
    st.sampled_from("%@/:?#&=+ \\'\"[]{}äß€漢🔑aZ09") | st.characters(exclude_categories=["C"]),
    min_size=3,
    max_size=24,
)


def is_shown(secret: str, text: str) -> bool:
    """Whether a text holds a secret that does not stand in every such text anyway."""
    return secret in text and secret not in SHOWN


@given(awkward)
@example("p%41ss")
@example("p@ss/w:rd 100% größe?x=y#z")
def test_an_escaped_password_is_never_shown(password: str) -> None:
    """However it is written, and whatever stands in it."""
    for escaped in (quote(password, ""), quote_plus(password)):
        text = f"postgresql+psycopg://user:{escaped}@host.example:5432/database"
        shown = redact(text)

        assert not is_shown(password, shown)
        assert not is_shown(escaped, shown)
        assert "user" in shown
        assert "host.example:5432/database" in shown


@given(awkward)
@example("p@s/cret")
@example("p@s3cret?x")
@example("p/s3cret")
@example("100%")
def test_a_password_that_was_not_escaped_is_never_shown(password: str) -> None:
    """Nor any part of it: what an unescaped `@` makes a host of is a piece of the password."""
    shown = redact(f"postgresql://user:{password}@host/db")

    for piece in (password, *re.split(r"[@/:?#&=\s]", password)):
        if len(piece) > 2:
            assert piece not in shown or piece in "postgresql://user:***@host/db"


@given(awkward)
def test_a_password_without_a_host_is_never_shown(password: str) -> None:
    """With the host forgotten, the password stands where a port does."""
    assert not is_shown(password, redact(f"postgresql://user:{password}"))


@given(awkward, st.sampled_from(["password", "token", "apiKey", "client_secret", "passwd"]))
def test_a_secret_in_the_query_is_never_shown(secret: str, key: str) -> None:
    """Some drivers take the password as a parameter."""
    for escaped in (quote(secret, ""), quote_plus(secret)):
        shown = redact(f"sqlite:///app.db?uri=true&{key}={escaped}")

        assert not is_shown(secret, shown)
        assert not is_shown(escaped, shown)
        assert shown.startswith("sqlite:///app.db?")


@given(awkward, st.booleans())
@example("p%41ss", True)
@example("back\\slash", True)
def test_hide_takes_a_secret_out_of_any_text(secret: str, in_query: bool) -> None:
    """As it is, as the URL has it, escaped, doubled for a config file, and as `repr` shows it."""
    escaped = quote(secret, "")
    url = (
        f"sqlite:///app.db?uri=true&password={escaped}"
        if in_query
        else f"postgresql://user:{escaped}@host/db"
    )
    forms = [secret, escaped, quote_plus(secret), escaped.replace("%", "%%"), repr(secret)[1:-1]]
    assume(not any(form in "connecting with failed ***" for form in forms))

    for form in forms:
        hidden = hide(f"connecting with {form} failed", url)

        assert form not in hidden
        assert hidden == "connecting with *** failed"


@given(awkward)
@example("p%41ss")
def test_hide_knows_a_password_as_it_was_written(password: str) -> None:
    """A `%` that escapes something else is still a part of what must not be shown."""
    assume("@" not in password and password not in "could not connect with *** to host")

    assert password not in hide(
        f"could not connect with {password} to host", f"postgresql://user:{password}@host/db"
    )


@given(st.text(max_size=40))
@example("")
@example("://")
@example("sqlite:///file://[x?uri=true")
@example("postgresql://[::1")
@example("postgresql://user:pw@host:port/db")
def test_whatever_is_given_as_a_url_is_read_or_refused(text: str) -> None:
    """No text ends in another error, and the error names the setting."""
    try:
        url = parse(text)
    except ConfigurationError as error:
        refusal: ConfigurationError | None = error
    else:
        refusal = None
        assert sqlite_file(url) is not None

    assert refusal is None or refusal.setting == "database_url"
    assert isinstance(redact(text), str)
    assert isinstance(secrets(text), tuple)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "nonsense cannot be parsed"),
        ("", "cannot be parsed"),
        ("postgresql://user:hunter2@host:port/db", "cannot be parsed"),
        ("postgresql://user:hunter2", "cannot be parsed"),
        ("sqlit:///app.db", "No SQLAlchemy dialect is installed for"),
        ("sqlite+aiosqlit:///app.db", "No SQLAlchemy dialect is installed for"),
        ("foo://user:hunter2@host/db", "foo://user:***@host/db"),
        ("postgresql://user:hunter2@host/db", "postgresql://user:***@host/db is not SQLite"),
        ("mysql+pymysql://user:hunter2@host/db", "only SQLite is supported so far"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "Use a file, such as sqlite:///var/app.db"),
        ("sqlite+aiosqlite://", "in memory"),
        ("sqlite:///file::memory:?uri=true", "in memory"),
        ("sqlite:///file::memory:?cache=shared&uri=true", "in memory"),
        ("sqlite:///file:name?mode=memory&uri=true", "in memory"),
        ("sqlite:///file:?uri=true", "in memory"),
        ("sqlite://app.db", "three slashes"),
        ("sqlite://user:hunter2@/app.db", "sqlite://user:***@/app.db names a host or a user"),
        ("sqlite+pysqlcipher:///app.db", "pip install"),
    ],
)
def test_every_refusal_says_why(text: str, words: str) -> None:
    """The message says what is wrong with the URL and shows it without its password."""
    with pytest.raises(ConfigurationError, match=re.escape(words)) as caught:
        parse(text)

    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


def test_a_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which package to install."""
    monkeypatch.setitem(sys.modules, "aiosqlite", None)

    with pytest.raises(ConfigurationError, match="pip install aiosqlite"):
        parse("sqlite+aiosqlite:///app.db")


@pytest.mark.parametrize(
    ("text", "file"),
    [
        ("sqlite:///app.db", "{cwd}/app.db"),
        ("sqlite:///var/../app.db", "{cwd}/app.db"),
        ("sqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite+aiosqlite:////srv/app.db", "/srv/app.db"),
        ("sqlite:////srv/a@b:c 100%.db", "/srv/a@b:c 100%.db"),
        ("sqlite:///file:app.db?uri=true", "{cwd}/app.db"),
        ("sqlite:///file:/srv/app.db?uri=true", "/srv/app.db"),
        ("sqlite:///file:///srv/app.db?uri=true", "/srv/app.db"),
        ("sqlite:///file:///srv/my%2520app.db?uri=true&mode=rw", "/srv/my%20app.db"),
        ("sqlite:///file:app.db", "{cwd}/file:app.db"),
        ("sqlite:///file:app.db?uri=false", "{cwd}/file:app.db"),
    ],
)
def test_the_file_of_a_sqlite_url(text: str, file: str) -> None:
    """Like the driver: relative to the working directory; a `file:` URI only with `uri=true`."""
    expected = file.format(cwd=Path.cwd())
    # SQLAlchemy leaves the database part of a URL as it is.
    found = sqlite_file(make_url(text))

    assert found == Path(expected) or found == Path(expected.replace("%20", " "))


def test_every_url_of_a_file_has_one_identity(tmp_path: Path) -> None:
    """Driver, spelling, URI and symbolic links do not make another database of it."""
    (tmp_path / "real.db").touch()
    (tmp_path / "link.db").symlink_to("real.db")
    urls = [
        f"sqlite:///{tmp_path}/real.db",
        f"sqlite+aiosqlite:///{tmp_path}/real.db",
        f"sqlite:///{os.path.relpath(tmp_path / 'real.db')}",
        f"sqlite:///{tmp_path}/x/../link.db",
        f"sqlite:///file:{tmp_path}/real.db?uri=true",
        f"sqlite:///{tmp_path}/link.db?timeout=3",
    ]

    assert len({identity(make_url(url)) for url in urls}) == 1
    assert not same_database(make_url(urls[0]), make_url(f"sqlite:///{tmp_path}/other.db"))


@given(awkward, awkward)
def test_an_identity_holds_no_password(user: str, password: str) -> None:
    """It stands in files, and is the same whoever connects."""
    url = URL.create("postgresql", user, password, host="host", port=5432, database="db")

    assert identity(url) == "postgresql:host:5432/db"


def test_our_own_connections_use_a_synchronous_driver() -> None:
    """Whatever the application's driver is."""
    url = synchronous(make_url("sqlite+aiosqlite:////srv/app.db?timeout=3"))

    assert url.drivername == "sqlite"
    assert url.database == "/srv/app.db"
    assert url.query == {"timeout": "3"}


def test_a_redacted_url_is_readable() -> None:
    """Paths are shown as they are, and so is what is no secret."""
    assert redact("sqlite:////srv/my app.db") == "sqlite:////srv/my app.db"
    assert redact("sqlite:///a.db?timeout=3") == "sqlite:///a.db?timeout=3"
    assert redact("postgresql://u@h/db") == "postgresql://u@h/db"
    assert json.dumps(redact("sqlite:///größe.db"), ensure_ascii=False) == '"sqlite:///größe.db"'
