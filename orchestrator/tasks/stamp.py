"""The task `stamp`: version rows without running a revision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step


def stamp(context: TaskContext) -> Iterator[Step]:
    """Set the version rows to the target, in one transaction for all heads."""
    context.environment.as_one_transaction()
    yield from context.environment.scripts.stamp(
        context.target, context.versions, purge=context.purge
    )
