"""What was asked for: a command, its target, and what may be done for it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Command(StrEnum):
    """What was asked for. `RUN` follows the policy; the others are single tasks."""

    RUN = "run"
    CREATE = "create"
    STAMP = "stamp"
    UPGRADE = "upgrade"
    DOWNGRADE = "downgrade"
    RESOLVE = "resolve"


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """What may be done: the settings of a run, and the options of a single command."""

    bootstrap: Literal["upgrade", "create"] = "upgrade"
    unversioned: Literal["refuse", "adopt", "upgrade"] = "refuse"
    unrecognised: Literal["refuse", "accept"] = "refuse"
    interrupted: Literal["refuse", "retry"] = "refuse"
    stamp_created: bool = True
    force: bool = False
    purge: bool = False
    applied: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """What was asked for. `target` is as it was given: it may be relative."""

    command: Command
    target: str
    policy: Policy
