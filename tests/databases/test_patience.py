"""What a busy database is to those who ask it."""

from __future__ import annotations

import pytest

from orchestrator.databases.base import patiently
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

    found = patiently(answer, timeout_seconds=30, interrupted=lambda: None)
    assert (found, len(tries)) == ("answer", 3)


def test_patience_has_a_deadline() -> None:
    """A database that stays busy is an error that tells how long it was waited for."""

    def refuse() -> None:
        raise unavailable(busy=True)

    with pytest.raises(DatabaseUnavailable) as raised:
        patiently(refuse, timeout_seconds=0.01, interrupted=lambda: None)
    assert raised.value.busy
    assert raised.value.waited_seconds >= 0.01


def test_what_waiting_does_not_mend_is_raised_at_once() -> None:
    """A file that is no database is not asked twice."""
    tries: list[int] = []

    def refuse() -> None:
        tries.append(1)
        raise unavailable(busy=False)

    with pytest.raises(DatabaseUnavailable):
        patiently(refuse, timeout_seconds=30, interrupted=lambda: None)
    assert len(tries) == 1


def test_patience_can_be_interrupted() -> None:
    """Between tries it is asked whether the answer is still wanted."""

    def refuse() -> None:
        raise unavailable(busy=True)

    def interrupt() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        patiently(refuse, timeout_seconds=30, interrupted=interrupt)
