"""Errors of drivers, of scripts and of Alembic: what is quoted of them, and of what led to them."""

from __future__ import annotations

import configparser
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy.engine import make_url

from orchestrator.databases.quoting import Quoted, told, without_secrets
from orchestrator.databases.secrets import NO_SECRETS, Secrets
from orchestrator.databases.url import secrets_of
from orchestrator.errors import ConfigurationError, OrchestratorError, TaskFailed

LONG = "hunter2-hunter2"


def raised(raising: Callable[[], object]) -> BaseException:
    """What a call raises."""
    try:
        raising()
    except BaseException as error:  # noqa: BLE001 - whatever it is
        return error
    raise AssertionError("nothing was raised")


def script(text: str) -> None:
    """Run this as somebody else's code."""
    exec(compile(text, "script.py", "exec"), {"__name__": "script"})


def secrets_with(password: str) -> Secrets:
    return secrets_of(make_url(f"postgresql://me:{password}@db.example/app"))


@pytest.mark.parametrize("password", ["s", "locked", "database", "postgres"])
def test_an_error_with_a_short_secret_is_not_quoted(password: str) -> None:
    """It is said why, and how to see it; no letter of the text is shown."""
    error = ValueError(f"{password}: no such thing")

    text = told(error, secrets_with(password))

    assert "no such thing" not in text
    assert "not quoted" in text
    assert "`alembic`" in text
    assert told(error, NO_SECRETS) == str(error)


@pytest.mark.parametrize(
    "value", ["postgresql://me:hun%ter2@h/db", "postgresql://me:a%(b)shunter2@h/db"]
)
def test_a_piece_of_a_config_is_not_quoted(tmp_path: Path, value: str) -> None:
    """Errors of interpolation hold what stands behind the `%`, in an ini and in a TOML file."""
    (tmp_path / "alembic.ini").write_text(f"[alembic]\nsqlalchemy.url = {value}\n")
    (tmp_path / "pyproject.toml").write_text(f'[tool.alembic]\n"sqlalchemy.url" = "{value}"\n')
    for config in (
        Config(tmp_path / "alembic.ini"),
        Config(toml_file=str(tmp_path / "pyproject.toml")),
    ):
        error = raised(lambda config=config: config.get_alembic_option("sqlalchemy.url"))

        text = told(error, NO_SECRETS)

        assert str(error) not in text
        assert "`%%`" in text
        assert "ter2" not in text


def test_own_words_stay() -> None:
    """A password that is one of them changes none, be it long; what a script raises is quoted."""
    own = ConfigurationError("The alembic_version2 is not orchestrator 2024 enough.")
    secrets = secrets_with("alembic_version2")

    assert str(without_secrets(own, secrets)) == str(own)
    theirs = raised(
        lambda: script(
            "from orchestrator.errors import ConfigurationError as E\nraise E('alembic_version2!')"
        )
    )
    assert isinstance(theirs, OrchestratorError)
    assert str(without_secrets(theirs, secrets)) == "***!"


CHAINS = {
    "cause": "try: raise ValueError({0!r})\nexcept ValueError as e: raise KeyError('k') from e",
    "context": "try: raise ValueError({0!r})\nexcept ValueError: raise KeyError('k')",
    "itself": "raise ValueError('because of ' + {0!r})",
    "cause of a cause": (
        "try:\n try: raise ValueError({0!r})\n except ValueError as e: raise KeyError('k') from e\n"
        "except KeyError as e: raise LookupError('l') from e"
    ),
    "note": "e = ValueError('x')\ne.add_note({0!r})\nraise e",
    "group": "raise ExceptionGroup('two', [ValueError({0!r}), KeyError('k')])",
    "ours": "from orchestrator.errors import TaskFailed\nraise TaskFailed({0!r}, task='upgrade')",
}


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("text", [LONG, f"postgresql://me:{LONG}@db.example/app", "x", "other"])
def test_what_led_to_an_error_is_fit_to_be_told(chain: str, text: str) -> None:
    """Servers print the causes of an error, too: they are as they were, or have no secret."""
    secrets = Secrets(frozenset({LONG, "x"}))
    cause = raised(lambda: script(chain.format(text)))
    before = "".join(traceback.format_exception(cause)).partition("\n")[2]
    error = TaskFailed("The upgrade failed.", task="upgrade")
    error.__cause__ = cause

    assert without_secrets(error, secrets) is error

    printed = "".join(traceback.format_exception(error))
    assert LONG not in printed
    assert "ValueError: x" not in printed
    assert "The upgrade failed." in printed
    assert "script.py" in printed
    if text == "other" and "'x'" not in chain:
        assert before in printed


def test_a_chain_in_a_circle_and_a_long_one() -> None:
    """Neither keeps a run from ending, nor is a suppressed context printed afterwards."""
    first, second = ValueError(LONG), KeyError("k")
    first.__context__, second.__context__ = second, first
    error = ConfigurationError("No.")
    error.__context__ = first
    error.__suppress_context__ = True
    last: BaseException = second
    for number in range(5000):
        last.__cause__ = ValueError(f"{LONG} {number}")
        last = last.__cause__

    without_secrets(error, Secrets(frozenset({LONG})))

    assert error.__suppress_context__
    assert isinstance(error.__context__, Quoted)
    assert str(error.__context__) == "ValueError: ***"


def test_an_error_that_cannot_be_told() -> None:
    """One whose text raises is left as it is: a traceback says no more of it."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    error = ConfigurationError("No.")
    error.__cause__ = Broken()

    assert isinstance(without_secrets(error, NO_SECRETS).__cause__, Broken)


def test_an_ini_file_that_cannot_be_parsed() -> None:
    """`configparser` quotes the lines that it does not understand."""
    parser = configparser.ConfigParser()

    error = raised(lambda: parser.read_string("postgresql://me:hunter2@h/db\n"))

    assert "hunter2" in str(error)
    assert "hunter2" not in told(error, NO_SECRETS)
