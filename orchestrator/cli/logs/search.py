"""Finds a run by its id, or by how its id begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import BinaryIO, Final

from orchestrator.cli.logs.files import Journals
from orchestrator.cli.logs.story import Story
from orchestrator.errors import ConfigurationError
from orchestrator.journal.reader import Tally, entries_about
from orchestrator.timeline.entries import Entry, in_order, text
from orchestrator.timeline.runs import Run
from orchestrator.timeline.story import run_of
from orchestrator.timeline.wording import printable

_NAMED: Final = 5


def find_run(files: Sequence[BinaryIO], prefix: str, journals: Journals) -> Run:
    """The run whose id begins so. Raises `ConfigurationError` unless there is exactly one."""
    run_id = _run_id(files, prefix, journals)
    return run_of(_own(files, run_id, prefix))


def find_story(files: Sequence[BinaryIO], prefix: str, journals: Journals, tally: Tally) -> Story:
    """That run with its entries, whom it waited for, and who waited for it.

    Raises `ConfigurationError` unless exactly one run's id begins so.
    """
    run_id = _run_id(files, prefix, journals)
    own: list[Entry] = []
    waiters: dict[str, datetime] = {}
    # What was typed is looked for, not the id: JSON may write an odd id in several ways.
    for entry in entries_about(files, prefix, tally):
        holder = entry.values.get("holder")
        if entry.run_id == run_id:
            own.append(entry)
        elif isinstance(holder, dict) and text(holder, "run_id") == run_id:
            waiters.setdefault(entry.run_id, entry.at)
    run = run_of(own)
    leader = _own(files, run.waited_for[-1], run.waited_for[-1]) if run.waited_for else []
    return Story(
        run=run,
        entries=in_order(own),
        leader=run_of(leader) if leader else None,
        waiters=tuple(sorted(waiters, key=lambda waiter: (waiters[waiter], waiter))),
    )


def _own(files: Sequence[BinaryIO], run_id: str, text_of_it: str) -> list[Entry]:
    found = entries_about(files, text_of_it, Tally())
    return [entry for entry in found if entry.run_id == run_id]


def _run_id(files: Sequence[BinaryIO], prefix: str, journals: Journals) -> str:
    found: dict[str, None] = {}
    if prefix:
        for entry in entries_about(files, prefix, Tally()):
            if entry.run_id == prefix:
                return prefix
            if entry.run_id.startswith(prefix):
                found[entry.run_id] = None
    if len(found) == 1:
        return next(iter(found))
    if not found:
        raise ConfigurationError(
            f"No run in {printable(str(journals))} has an id that begins with "
            f"{printable(prefix)!r}. `orchestrator logs` lists the last ones; name another "
            "journal with --journal FILE.",
            setting="RUN",
        )
    named = ", ".join(printable(run_id) for run_id in list(found)[:_NAMED])
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    raise ConfigurationError(
        f"More than one run's id begins with {printable(prefix)!r}: {named}{more}. "
        "Write more of the one you mean.",
        setting="RUN",
    )
