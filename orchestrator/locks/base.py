"""What a lock is to those who wait for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from orchestrator.results import Holder


class Lock(ABC):
    """A lock that one process holds at a time, and that is free when its holder dies.

    `name` is what events call it. `quick` says whether its methods wait for nobody, so that they
    may be called on an event loop. `poll_seconds` are the shortest and the longest pause between
    two tries.
    """

    name: ClassVar[str]
    quick: ClassVar[bool] = True
    poll_seconds: ClassVar[tuple[float, float]] = (0.02, 0.05)

    excludes: bool = True
    """Whether holding it keeps others out; where it cannot, everybody is let through."""

    trouble: str | None = None
    """Why it cannot even be tried for the time being, in the middle of a sentence."""

    @abstractmethod
    def try_acquire(self) -> bool:
        """Take the lock if it is free, at once; True if it is now held by this object."""

    @abstractmethod
    def release(self) -> None:
        """Let go of the lock; without effect if it is not held."""

    def seen_holder(self) -> Holder | None:
        """Who holds it, as far as the lock itself tells."""
        return None
