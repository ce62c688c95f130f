"""What a task receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.revisions.migration_context import Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskContext:
    """A task's view of the pass: where to work, from which version rows, to which target."""

    environment: Environment
    target: str
    versions: tuple[str, ...]
    purge: bool = False
