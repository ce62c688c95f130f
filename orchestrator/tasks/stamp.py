"""The task `stamp`: version rows without running a revision."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step


def stamp(context: TaskContext) -> Iterator[Step]:
    """Set the version rows to the target, in one transaction for all heads."""
    environment, versions = context.environment, context.versions
    environment.as_one_transaction()
    if context.purge and versions:
        versions = environment.clean_version_rows()
    yield from environment.scripts.stamp(context.target, versions, purge=context.purge)
