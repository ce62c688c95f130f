"""Secrets in texts: none is left, and no text is garbled."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import URL, make_url

from orchestrator.databases.secrets import NO_SECRETS, Secrets, redacted
from orchestrator.databases.url import secrets_of

MESSAGES = [
    'port 5432 failed: FATAL:  password authentication failed for user "postgres"',
    "(1045, \"Access denied for user 'app'@'10.0.0.7' (using password: YES)\")",
    'unrecognized token: "#"',
    'near "token": syntax error [ALTER TABLE users ADD COLUMN password VARCHAR(64)]',
    "UNIQUE constraint failed: users.token",
    'duplicate key value violates unique constraint "pk"\nDETAIL:  Key (id)=(5) already exists.',
    "Can't locate revision identified by 'r9'",
    "(Background on this error at: https://sqlalche.me/e/20/e3q8)",
    "database is locked",
    "cannot reach redis://cache:6379/0 nor http://localhost:8000/users/me@example.com",
    "connecting to postgresql://me@db.example:5432/app?sslmode=require",
    "sqlite:////srv/a:b@c.db?timeout=3 is missing",
    "connect(host='h', password=None, primary_key=True, max_tokens=5, passed=3)",
    "No module named 'psycopg'",
    "[Errno 13] Permission denied: '/srv/app/secret/token.txt'",
]
"""What drivers and scripts say that holds no secret, though much looks like it."""

TEMPLATES = [
    "connecting with {} failed",
    "{}",
    "user '{}'",
    'role "{}" does not exist',
    "a:{}@b",
    "args=({},)",
    "key: {}\nnext",
    "PWD {};UID=sa",
    "%3D{}",
    "\\n{}",
    "\x1b[31m{}\x1b[0m",
]

anything = st.characters(exclude_categories=["Cs"], exclude_characters="*")
passwords = st.text(anything, min_size=1, max_size=20) | st.text(
    st.sampled_from("%@/:?#&=+; \\'\"[]{}$_-äß€漢🔑aZ09"), min_size=1, max_size=20
)
names = st.text(anything, min_size=1, max_size=8)


def spellings(secret: str) -> set[str]:
    """How a secret may be written: as it is, or as what escapes it has it."""
    escaped = {secret, quote(secret, ""), quote_plus(secret), repr(secret)[1:-1]}
    escaped |= {json.dumps(secret)[1:-1], ascii(secret)[1:-1], secret.replace("'", "''")}
    escaped |= {quote(one, "") for one in escaped} | {repr(one)[1:-1] for one in escaped}
    return escaped | {one.replace("%", "%%") for one in escaped}


def stands_in(secret: str, text: str) -> bool:
    """Whether a text has a secret, in some spelling, that does not cut one of its words."""
    return any(
        not (is_word(text[at - 1 : at]) and is_word(one[:1]))
        and not (is_word(text[at + len(one) :][:1]) and is_word(one[-1:]))
        for one in spellings(secret)
        for at in occurrences(one, text)
    )


def is_word(char: str) -> bool:
    return re.match(r"\w", char) is not None


def occurrences(secret: str, text: str) -> Iterator[int]:
    at = text.find(secret)
    while at >= 0:
        yield at
        at = text.find(secret, at + 1)


@given(passwords, names, names, names, st.sampled_from(TEMPLATES), st.integers(min_value=0))
@example("postgres", "me", "h", "db", TEMPLATES[0], 0)
@example("s", "u", "h", "db", TEMPLATES[2], 0)
@example("p%41ss", "u", "h", "db", TEMPLATES[0], 1)
def test_no_token_is_left(
    password: str, user: str, host: str, database: str, template: str, choice: int
) -> None:
    """Whatever the password: in no spelling does it stand in a text that is quoted."""
    assume(not any(stands_in(password, part) for part in (user, host, database)))
    secrets = secrets_of(URL.create("postgresql", user, password, host, 5432, database))
    spelled = sorted(spellings(password))

    quoted = secrets.quote(template.format(spelled[choice % len(spelled)]))

    assert quoted is None or not stands_in(password, quoted)


@given(passwords, st.sampled_from(MESSAGES) | st.text(st.sampled_from("abs 1_.-,()äé\n'\"")))
@example("postgres", "postgresql is not postgres_fdw")
@example("s", "messages of postgres")
@example("password", MESSAGES[2])
@example("is locked", "database is locked_out")
def test_a_text_without_the_secret_is_as_it_was(password: str, message: str) -> None:
    """Not a letter is missing, whatever words the password is a part of."""
    assume(not stands_in(password, message))
    secrets = Secrets(frozenset({password}))

    assert secrets.quote(message) == message
    assert secrets.hide(message) == message


@given(
    st.text(anything, min_size=1, max_size=7) | st.text(st.characters(categories=["L"]), min_size=1)
)
@example("database")
@example("database is locked")
@example("alembic_version")
@example("s")
def test_what_a_gap_would_show_makes_none(secret: str) -> None:
    """A text with a short secret, or a plain word, is quoted not at all, or as it is."""
    secrets = Secrets(frozenset({secret}))

    for message in (*MESSAGES, f"no {secret} here"):
        assert secrets.quote(message) in (None, message)
        assert secrets.hide(message) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_what_holds_no_secret_is_not_redacted(message: str) -> None:
    """Much reads like a secret, and is none."""
    assert redacted(message) == message
    assert NO_SECRETS.quote(message) == message


def test_what_is_shown_anyway_stays() -> None:
    """A user, a host or a database of the same name is told, and so is a host's part."""
    url = make_url("postgresql+psycopg://postgres:production1@db.production1.example/postgres")
    text = 'host "db.production1.example", user "postgres" by postgresql+psycopg'

    assert secrets_of(url).quote(text) == text
    assert secrets_of(url).quote(f"{text}: production1") == f"{text}: ***"
    same = make_url("postgresql://postgres:postgres@localhost/postgres")
    assert secrets_of(same).quote(MESSAGES[0]) == MESSAGES[0]
    written = same.render_as_string(hide_password=False)
    assert secrets_of(same).quote(written) == "postgresql://postgres:***@localhost/postgres"


@given(
    passwords, st.sampled_from(["{}", "'{}'", '"{}", and', "({})", "<{}>", "at {}\nx", "{}: no"])
)
@example("p w@x/y", "{}")
def test_urls_of_any_database(password: str, template: str) -> None:
    """The password of a URL is hidden, whosever it is; all else of it is shown."""
    for escaped in (quote(password, ""), quote_plus(password)):
        url = f"mysql+pymysql://me:{escaped}@db.example:3306/app?charset=utf8"

        shown = template.format(url.replace(f":{escaped}@", ":***@"))
        assert redacted(template.format(url)) == shown


@given(st.text(anything, min_size=1).filter(lambda text: "\n" not in text))
def test_urls_with_what_should_have_been_escaped(password: str) -> None:
    """SQLAlchemy takes any but an `@` as it is, spaces too; so much is hidden."""
    assume(not re.match(r"\d{1,5}\W", password) and not set(password) & set("@'\""))
    told = redacted(f"cannot use postgresql://me:{password}@db.example/app")

    assert told.startswith("cannot use postgresql://me:***")
    shown = "cannot use postgresql://me:***@db.example/app"
    assert len(password) < 3 or password in shown or password not in told


def libpq(text: str) -> str:
    return "'{}'".format(re.sub(r"(['\\])", r"\\\1", text))


def odbc(text: str) -> str:
    return "{{{}}}".format(text.replace("}", "}}"))


def sql(text: str) -> str:
    return "'{}'".format(text.replace("'", "''"))


PAIRS: list[tuple[str, Callable[[str], str]]] = [
    ("host=h password={} dbname=x", libpq),
    ("Driver=X;Server=h;UID=u;PWD={};Database=x", odbc),
    ("connect(host='h', passwd={}, port=3)", repr),
    ("{{'user': 'me', 'password': {}, 'port': 3}}", repr),
    ('{{"db_token": {}, "port": 3}}', json.dumps),
    ("CREATE ROLE app LOGIN PASSWORD {} VALID UNTIL 'x'", sql),
    ("CREATE USER app IDENTIFIED BY {}", sql),
    ("sqlite:///app.db?uri=true&pw={}&timeout=3", quote_plus),
    ("client_secret={}", quote_plus),
    ("mssql+pyodbc:///?odbc_connect={}", lambda text: quote_plus(f"UID=u;PWD={odbc(text)};")),
]


@pytest.mark.parametrize(("template", "escape"), PAIRS, ids=[template for template, _ in PAIRS])
@settings(max_examples=40)
@given(data=st.data())
def test_pairs(template: str, escape: Callable[[str], str], data: st.DataObject) -> None:
    """The value of what is named like a secret is hidden, and nothing after it."""
    secret = data.draw(passwords.filter(lambda text: "\n" not in text))
    assume(not template.startswith("CREATE") or "\\" not in secret)
    assume(secret not in ("None", "null", "True", "False"))  # as code has them
    written = escape(secret)
    before, _, after = template.format("\0").partition("\0")

    told = redacted(template.format(written))

    assert told.startswith(before)
    assert told.endswith(after)
    assert re.fullmatch(r"""['"{]?\*\*\*['"}]?""", told[len(before) : len(told) - len(after)])


@given(
    st.lists(
        st.sampled_from([*MESSAGES, "password=", "a b", "'", "***", "://u:", "@h ", "?token=", ";"])
    )
)
def test_what_is_redacted_stays_as_it_is(pieces: list[str]) -> None:
    """Redacting twice is redacting once."""
    once = redacted("".join(pieces))

    assert redacted(once) == once


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("postgresql://user:100", "port 100"),
        ("postgresql://u:p@h/db?pw=hunter2", "no hunter2"),
        ("mssql+pyodbc:///?odbc_connect=Driver%3DX%3BPWD%3Dhunter2%3B", "no hunter2"),
        ("mssql+pyodbc:///?odbc_connect=PWD%3D%7Ba%7D%7Db%7D%3BUID%3Dx", "no a}b"),
        ("postgresql://u@h/db?service=postgresql://u:hunter2@h/db", "no hunter2"),
    ],
)
def test_secrets_of_a_url(url: str, text: str) -> None:
    """They may stand in a parameter, and in what a parameter holds."""
    assert secrets_of(make_url(url)).quote(text) is None


def test_a_long_text_does_not_keep_a_run_waiting() -> None:
    """The work grows as the text does, and not as its square: this test would not end."""
    secrets = Secrets(frozenset({"hunter2%\\'"}), frozenset({"db"}))
    for char in "a%\\'= :":
        for text in (char * 30_000, f"password{char}" * 2_000):
            assert secrets.quote(text) == redacted(text)
