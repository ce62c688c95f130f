"""What happens in a round, made from its seed alone."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

FAULTS: Final = ("kill", "stop", "terminate", "garbage", "disk")
"""What is done to processes and files at random instants; a moved clock is a racer's own."""

LONGEST_REVISIONS: Final = 5
PATIENT_SECONDS: Final = 60.0
"""A lock timeout that no race reaches."""


@dataclass(frozen=True, kw_only=True)
class Racer:
    """One process: the command line, or the library with a witness at its terminal event.

    `fresh` ones are interpreters of their own, the others are forked from one that has
    imported everything. `clock_seconds` is how far its wall clock is off.
    """

    delay_seconds: float
    door: str
    fresh: bool
    command: str
    backend: str
    lock_timeout_seconds: float
    clock_seconds: float


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that happens at an instant. `aim` is a racer's number; None is the leader.

    `size` is for each kind what it needs: bytes, seconds, the number of a piece of garbage.
    """

    at_seconds: float
    kind: str
    aim: int | None
    size: float


@dataclass(frozen=True, kw_only=True)
class Round:
    """A race: so many revisions of so many seconds, of which the first few are there already.

    `broken` is the position of a revision that raises until the race is over.
    """

    seed: int
    revisions: int
    there: int
    seconds: float
    transaction: str
    journal_mode: str
    on_peer_failure: str
    small_disk: bool
    broken: int | None
    racers: tuple[Racer, ...]
    faults: tuple[Fault, ...]

    @property
    def heads(self) -> str:
        """The newest revision."""
        return f"r{self.revisions}"


def make_round(seed: int) -> Round:
    """The round of a seed; the same in every process and on every machine."""
    rng = random.Random(seed)
    revisions = rng.randint(2, LONGEST_REVISIONS)
    seconds = rng.uniform(0.02, 0.25)
    there = rng.choice([0, 0, 0, rng.randint(1, revisions)])
    racers = tuple(_racer(rng) for _ in range(rng.randint(3, 6)))
    length = 0.3 + (revisions - there) * seconds
    faults = [_fault(rng, length, len(racers)) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4]))]
    return Round(
        seed=seed,
        revisions=revisions,
        there=there,
        seconds=seconds,
        transaction=rng.choice(["env", "env", "run", "revision"]),
        journal_mode=rng.choice(["delete", "delete", "wal"]),
        on_peer_failure=rng.choice(["fail", "fail", "retry"]),
        small_disk=rng.random() < 0.3,
        broken=rng.randint(1, revisions) if rng.random() < 0.12 else None,
        racers=racers,
        faults=tuple(sorted(faults, key=lambda fault: fault.at_seconds)),
    )


def _racer(rng: random.Random) -> Racer:
    command = rng.choice(["run"] * 8 + ["wait", "status"])
    timeout = rng.choice([PATIENT_SECONDS] * 8 + [0.0, 0.4])
    return Racer(
        delay_seconds=rng.choice([0.0, 0.0, rng.uniform(0, 0.3), rng.uniform(0, 1.0)]),
        door=rng.choice(["command", "command", "library"]),
        fresh=rng.random() < 0.06,
        command=command,
        backend=rng.choice(["asyncio", "trio"]),
        # Whoever only follows waits in vain where nobody is left to lead.
        lock_timeout_seconds=min(timeout, 2.0) if command == "wait" else timeout,
        clock_seconds=rng.choice([0.0] * 5 + [-90_000.0, 3e8, rng.uniform(-5, 5)]),
    )


def _fault(rng: random.Random, length: float, racers: int) -> Fault:
    kind = rng.choice(FAULTS)
    size = {
        "kill": 0.0,
        "stop": rng.uniform(0.05, 0.7),  # seconds until it goes on
        "terminate": rng.choice([0.0, 0.0, rng.uniform(0.001, 0.1)]),  # seconds to the second
        "garbage": rng.randrange(100),
        "disk": rng.choice([0, 700, 4096, 9000, 20_000, 40_000]),  # bytes that are left
    }[kind]
    aim = None if rng.random() < 0.6 else rng.randrange(racers)
    return Fault(at_seconds=rng.uniform(0.02, length), kind=kind, aim=aim, size=size)
