"""The tasks: each is a generator of the steps that Alembic takes.

A new task is one file here and one row in this table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from orchestrator.decision.plan import Task
from orchestrator.tasks.context import TaskContext
from orchestrator.tasks.create import create
from orchestrator.tasks.downgrade import downgrade
from orchestrator.tasks.resolve import resolve
from orchestrator.tasks.stamp import stamp
from orchestrator.tasks.upgrade import upgrade

if TYPE_CHECKING:
    from orchestrator.revisions.scripts import Step

TASKS: Final[dict[Task, Callable[[TaskContext], Iterator[Step]]]] = {
    Task.CREATE: create,
    Task.STAMP: stamp,
    Task.UPGRADE: upgrade,
    Task.DOWNGRADE: downgrade,
    Task.RESOLVE: resolve,
}
