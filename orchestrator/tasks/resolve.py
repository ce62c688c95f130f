"""The task `resolve`: what was interrupted is taken for done, or for undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step


def resolve(context: TaskContext) -> Iterator[Step]:
    """Set the version rows as the revision would have; the mark itself goes after the proof."""
    environment, mark = context.environment, context.mark
    if mark is None or not context.applied:
        return
    if not environment.scripts.is_done(mark, context.versions):
        yield environment.scripts.as_if_run(mark.revision, context.versions, down=mark.down)
