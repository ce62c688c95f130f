"""Database URLs: what is refused, and what is shown."""

from __future__ import annotations

import json
import re
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from orchestrator.databases import database_of
from orchestrator.databases.url import redact
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
@example("100")
@example("@00")
def test_a_password_without_a_host_is_never_shown(password: str) -> None:
    """With the host forgotten, the password stands where a port does.

    With a `/` in it, nobody can tell it from a port and a database: it has to be escaped.
    """
    assume("/" not in password)

    assert not is_shown(password, redact(f"postgresql://user:{password}"))


@given(awkward, st.sampled_from(["password", "token", "apiKey", "client_secret", "passwd"]))
def test_a_secret_in_the_query_is_never_shown(secret: str, key: str) -> None:
    """Some drivers take the password as a parameter."""
    for escaped in (quote(secret, ""), quote_plus(secret)):
        shown = redact(f"sqlite:///app.db?uri=true&{key}={escaped}")

        assert not is_shown(secret, shown)
        assert not is_shown(escaped, shown)
        assert shown.startswith("sqlite:///app.db?")


@given(awkward, st.sampled_from(["pw", "Password", "sslpassword", "api_key", "x-token"]))
def test_a_secret_of_another_spelling_is_none(secret: str, key: str) -> None:
    """What a URL shows is the same for every value of a secret parameter."""
    shown = {redact(f"postgresql://h/db?{key}={quote(one, '')}") for one in (secret, "other")}

    assert shown == {f"postgresql://h/db?{key}=***"}


def test_a_connection_string_in_a_parameter() -> None:
    """Its password is hidden, and the server that it names is not."""
    given_to_odbc = "DRIVER={ODBC Driver 18};SERVER=db.example;UID=me;PWD={h}};unter2};Encrypt=yes"
    url = f"mssql+pyodbc:///?odbc_connect={quote_plus(given_to_odbc)}"

    shown = redact(url)

    assert "unter2" not in shown
    assert make_url(shown).query["odbc_connect"] == given_to_odbc.replace("h}};unter2", "***")


@given(st.text(max_size=40))
@example("")
@example("://")
@example("sqlite:///file://[x?uri=true")
@example("postgresql://[::1")
@example("postgresql://user:pw@host:port/db")
def test_whatever_is_given_as_a_url_is_read_or_refused(text: str) -> None:
    """No text ends in another error, and the error names the setting."""
    try:
        database_of(text)
    except ConfigurationError as error:
        assert error.setting == "database_url"  # noqa: PT017 - only some texts are refused
    assert isinstance(redact(text), str)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense", "nonsense cannot be parsed"),
        ("", "cannot be parsed"),
        ("postgresql://user:hunter2@host:port/db", "cannot be parsed"),
        ("postgresql://user:hunter2", "cannot be parsed"),
        ("postgresql://user:p@hunter2@host/db", "`@` is written `%40`"),
        ("postgresql://user:p@hunter2/x@host/db", "postgresql://*** cannot be parsed"),
        ("sqlit:///app.db", "No SQLAlchemy dialect is installed for"),
        ("sqlite+aiosqlit:///app.db", "No SQLAlchemy dialect is installed for"),
        ("foo://user:hunter2@host/db", "foo://user:***@host/db"),
        ("postgresql+pg8000://user:hunter2@host/db", "pip install pg8000"),
        ("mssql+pyodbc://user:hunter2@host/db", "mssql+pyodbc://user:***@host/db is for mssql"),
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
        database_of(text)

    assert caught.value.exit_code == 2
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("url", "module", "package"),
    [
        ("sqlite+aiosqlite:///app.db", "aiosqlite", "aiosqlite"),
        ("mysql://user@host/name", "MySQLdb", "mysqlclient"),
        ("postgresql+psycopg2://user@host/name", "psycopg2", "psycopg2-binary"),
    ],
)
def test_a_missing_driver_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, package: str
) -> None:
    """The error says which package to install, by its name on the index."""
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(ConfigurationError, match=f"pip install {package}`"):
        database_of(url)


def test_a_redacted_url_is_readable() -> None:
    """Paths are shown as they are, and so is what is no secret."""
    assert redact("sqlite:////srv/my app.db") == "sqlite:////srv/my app.db"
    assert redact("sqlite:///a.db?timeout=3") == "sqlite:///a.db?timeout=3"
    assert redact("postgresql://u@h/db") == "postgresql://u@h/db"
    assert json.dumps(redact("sqlite:///größe.db"), ensure_ascii=False) == '"sqlite:///größe.db"'
