"""What a task receives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.results import Mark
    from orchestrator.revisions.migration_context import Environment


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskContext:
    """A task's view of the pass: where to work, from which version rows, to which target.

    `mark` tells of a revision that was interrupted; whether it is taken for done says `applied`.
    """

    environment: Environment
    target: str
    versions: tuple[str, ...]
    purge: bool = False
    mark: Mark | None = None
    applied: bool = False
