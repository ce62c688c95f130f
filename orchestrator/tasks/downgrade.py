"""The task `downgrade`: back from the version rows to the target."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step


def downgrade(context: TaskContext) -> Iterator[Step]:
    """Take back what lies beyond the target, newest first."""
    environment = context.environment
    yield from environment.scripts.downgrade(context.target, environment.versions_as_they_stand())
