"""The task `upgrade`: the revisions between the version rows and the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step


def upgrade(context: TaskContext) -> Iterator[Step]:
    """Run what is missing, oldest first."""
    yield from context.environment.scripts.upgrade(context.target, context.versions)
