"""What a busy database is to those who ask it."""

from __future__ import annotations

import pytest

from orchestrator.databases import patience
from orchestrator.databases.patience import Patience, patiently
from orchestrator.errors import DatabaseUnavailable, Interrupted


def unavailable(*, busy: bool) -> DatabaseUnavailable:
    return DatabaseUnavailable("x", url="sqlite:///x", busy=busy)


def test_a_busy_database_is_asked_again() -> None:
    """Patience ends with the answer."""
    tries: list[int] = []

    def answer() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise unavailable(busy=True)
        return "answer"

    found = patiently(answer, Patience())
    assert (found, len(tries)) == ("answer", 3)


def test_patience_has_a_deadline() -> None:
    """A database that stays busy is an error that tells how long it was waited for."""

    def refuse() -> None:
        raise unavailable(busy=True)

    with pytest.raises(DatabaseUnavailable) as raised:
        patiently(refuse, Patience(timeout_seconds=0.01))
    assert raised.value.busy
    assert raised.value.waited_seconds >= 0.01


def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    """A file that is no database is not asked twice."""
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise unavailable(busy=False)

    with pytest.raises(DatabaseUnavailable):
        patiently(refuse, Patience())
    assert len(tries) == 1


def test_patience_can_be_interrupted() -> None:
    """Between tries it is asked whether the answer is still wanted."""

    def refuse() -> None:
        raise unavailable(busy=True)

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        patiently(refuse, Patience(interrupted=interrupt))


def test_a_long_wait_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while, what for and for how long; a short one is not worth a word."""
    told: list[tuple[float, str]] = []
    tries: list[int] = []

    def answer() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise unavailable(busy=True)

    patiently(answer, Patience(tell=lambda *word: told.append(word)))
    assert told == []

    tries.clear()
    monkeypatch.setattr(patience, "_UNTOLD_SECONDS", 0.02)
    patiently(answer, Patience(tell=lambda *word: told.append(word)))
    [(seconds, reason)] = told
    assert 0.02 <= seconds <= 30
    assert reason == "another process is writing to it"
