"""Whoever asks too much waits for the answer, and nobody else."""

from __future__ import annotations

from orchestrator.asgi.pace import Pace


def test_what_a_page_asks_is_answered_at_once() -> None:
    """Two requests a second, for hours."""
    pace = Pace()
    assert all(pace.delay("a", now / 2) == 0 for now in range(10_000))


def test_a_flood_is_slowed_down() -> None:
    """Half a second each at most: so many come as clients wait for at the same time."""
    pace = Pace()
    delays = [pace.delay("a", 0.0) for _ in range(1000)]
    assert delays[:39] == [0.0] * 39
    assert 0 < delays[42] < delays[45] <= 0.5
    assert delays[-1] == 0.5
    assert pace.delay("a", 60.0) == 0.0


def test_nobody_else_waits_for_it() -> None:
    """Nor is more remembered than a thousand addresses."""
    pace = Pace()
    for _ in range(1000):
        pace.delay("a", 0.0)
    assert pace.delay("probe", 0.0) == 0.0
    for number in range(5000):
        pace.delay(str(number), 0.0)
    assert len(pace._until) == 1000
