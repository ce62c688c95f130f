"""What a lock is to those who wait for it."""

from __future__ import annotations

from typing import Protocol


class Lock(Protocol):
    """A lock that one process holds at a time, and that is free when its holder dies."""

    @property
    def name(self) -> str:
        """What events call it."""

    @property
    def quick(self) -> bool:
        """Whether its methods wait for nobody, so that they may be called on an event loop."""

    def try_acquire(self) -> bool:
        """Take the lock if it is free, at once; True if it is now held by this object."""

    def release(self) -> None:
        """Let go of the lock; without effect if it is not held."""
