"""Errors of drivers, of scripts and of Alembic, quoted without secrets."""

from __future__ import annotations

from typing import Final, TypeVar

from orchestrator.databases.secrets import Secrets, redacted
from orchestrator.errors import OrchestratorError

_NOT_QUOTED: Final = (
    "[not quoted: the text of this error holds a secret of the database's URL, which is too short "
    "or too plain a word to be hidden in it. The `alembic` command prints it in full]"
)
_CONFIG_NOT_QUOTED: Final = (
    "[not quoted: the text of this error holds a piece of a value in alembic.ini or "
    "pyproject.toml, which may be of a password. A `%` in a value there is written `%%`]"
)

_OF_FORMATTING: Final = (ValueError, LookupError, TypeError)
"""Alembic interpolates what TOML says by Python's `%`, whose errors name a character or a key."""

E = TypeVar("E", bound=OrchestratorError)


class Quoted(Exception):
    """Stands for an error whose own text holds a secret, in the chain of causes of another."""


def told(error: BaseException, secrets: Secrets) -> str:
    """What an error says, as far as it can be quoted; without the name of its class."""
    return _quoted(error, str(error), secrets)


def without_secrets(error: E, secrets: Secrets) -> E:
    """The error, fit to leave the library, with all that led to it.

    Its message is in our own words, and what it quotes has come through `told`: a word that is
    like a secret is left. One that a script has raised is quoted as a whole. In the place of a
    cause that is not fit to be told there is a `Quoted`: servers print the causes, too.
    """
    _mend(error, secrets)
    fit: dict[int, tuple[BaseException, BaseException]] = {id(error): (error, error)}
    left: list[BaseException] = [error]
    while left:
        effect = left.pop()
        suppressed = effect.__suppress_context__
        for link in ("__cause__", "__context__"):
            cause = getattr(effect, link)
            if cause is not None and id(cause) not in fit:
                fit[id(cause)] = cause, _fit(cause, secrets)
                left.append(fit[id(cause)][1])
            if cause is not None:
                setattr(effect, link, fit[id(cause)][1])
        effect.__suppress_context__ = suppressed
    return error


def _mend(error: OrchestratorError, secrets: Secrets) -> None:
    own = _raised_in(error).partition(".")[0] in ("", __name__.partition(".")[0])
    text = redacted(str(error)) if own else told(error, secrets)
    if text != str(error):
        error.args = (text,)


def _fit(cause: BaseException, secrets: Secrets) -> BaseException:
    if isinstance(cause, OrchestratorError):
        _mend(cause, secrets)
    if isinstance(cause, (OrchestratorError, Quoted)):
        return cause
    text = _all_text(cause)
    quoted = _quoted(cause, text, secrets)
    if quoted == text:
        return cause
    stand_in = Quoted(f"{type(cause).__name__}: {quoted}").with_traceback(cause.__traceback__)
    stand_in.__cause__, stand_in.__context__ = cause.__cause__, cause.__context__
    stand_in.__suppress_context__ = cause.__suppress_context__
    return stand_in


def _all_text(error: BaseException) -> str:
    """All that a traceback would print of one error, and of those that a group holds."""
    try:
        texts = [str(error), *getattr(error, "__notes__", ())]
    except Exception:  # noqa: BLE001 - somebody else's code; a traceback says as much
        return ""
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return "\n".join([*texts, *map(_all_text, members)])


def _quoted(error: BaseException, text: str, secrets: Secrets) -> str:
    import configparser  # here, for its time: a warm start tells of no error

    if isinstance(error, configparser.Error):
        return _CONFIG_NOT_QUOTED
    if isinstance(error, _OF_FORMATTING) and _raised_in(error) == "alembic.config":
        return _CONFIG_NOT_QUOTED
    quoted = secrets.quote(text)
    return _NOT_QUOTED if quoted is None else quoted


def _raised_in(error: BaseException) -> str:
    """The name of the module whose code raised an error; empty where it was not raised."""
    traceback, name = error.__traceback__, ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return name
