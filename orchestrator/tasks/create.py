"""The task `create`: the tables as the metadata declares them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.tasks.context import TaskContext

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step


def create(context: TaskContext) -> Iterator[Step]:
    """Make every table of the metadata; yields no step.

    What only migrations make (seed rows, triggers, views) is not made.
    Raises `ConfigurationError` for metadata without tables.
    """
    metadata = context.environment.metadata()
    context.environment.as_one_transaction()
    for one in metadata:
        # Nothing is there yet, so nothing needs to be asked for.
        one.create_all(context.environment.connection, checkfirst=False)
    yield from ()
