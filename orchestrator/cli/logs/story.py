"""The whole story of one run, in plain lines with offsets from its beginning."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from orchestrator.cli.logs.text import STYLES, moment, print_line
from orchestrator.timeline.entries import Entry
from orchestrator.timeline.figures import took, waited
from orchestrator.timeline.runs import Run
from orchestrator.timeline.wording import brief, count, duration, listed, printable, short

_BAR: Final = 24
_LISTED_WAITERS: Final = 8
EVENT_STYLES: Final = {
    "database_ready": "green",
    "run_failed": "bold red",
    "task_failed": "bold red",
    "run_cancelled": "bold magenta",
    "lock_waiting": "yellow",
    "ddl_blocked": "yellow",
}
_ENDED: Final = {
    "ready": "was ready",
    "failed": "failed",
    "cancelled": "was cancelled",
    "unfinished": "has no end here",
}
_FATE_STYLES: Final = {"applied": "blue", "failed": "bold red"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Story:
    """A run, its entries in order, and the runs it has to do with.

    `leader` is the run it waited for last, where the journal has it; `waiters` are the ids of
    the runs that waited for this one, in the order in which they began to.
    """

    run: Run
    entries: Sequence[Entry]
    leader: Run | None
    waiters: tuple[str, ...]


def print_story(console: Console, story: Story) -> None:
    """Print it all."""
    for part in (_heading, _events, _revisions, _relations, _failure):
        lines = list(part(story))
        for line in lines:
            print_line(console, line)
        if lines and part is not _failure:
            console.print()


def _heading(story: Story) -> Iterator[Text]:
    run = story.run
    role = f", {run.role}" if run.role else ""
    yield Text.assemble(
        (f"run {printable(run.run_id)}  ", "bold"), (run.outcome + role, STYLES[run.outcome])
    )
    release = f", release {printable(run.release)}" if run.release else ""
    pid = "?" if run.pid is None else run.pid
    yield _field("process", f"{printable(run.host or '?')}:{pid}{release}")
    yield _field("database", printable(run.database or "?"))
    yield _field("when", moment(run.began_at))
    waiting = f", {waited(run)} of it waiting" if run.waits else ""
    yield _field("took", f"{took(run)}{waiting}")
    if run.applied:
        yield _field("applied", count(len(run.applied), "revision"))


def _events(story: Story) -> Iterator[Text]:
    began_at = story.run.began_at
    for entry in story.entries:
        offset = (entry.at - began_at).total_seconds()
        yield Text.assemble(
            (f"{offset:>+12.3f} s  ", "bright_black"),
            (brief(entry.name, entry.values), EVENT_STYLES.get(entry.name, "")),
        )
    moments = [entry.at for entry in story.entries]
    if any(later < earlier for earlier, later in itertools.pairwise(moments)):
        yield Text("  the clock ran backwards meanwhile: offsets are not durations", style="yellow")


def _revisions(story: Story) -> Iterator[Text]:
    revisions = story.run.revisions
    slowest = max((item.duration_seconds for item in revisions), default=0.0)
    for item in revisions:
        share = item.duration_seconds / slowest if slowest > 0 else 0.0
        fate = "" if item.fate == "applied" else f"  {item.fate}"
        name = f"{printable(item.revision)} {printable(item.description)}".rstrip()
        yield Text.assemble(
            f"  {duration(item.duration_seconds):>10} ",
            (f"{'█' * max(1, round(share * _BAR)):<{_BAR}}", _FATE_STYLES.get(item.fate, "")),
            f" {name}",
            (fate, _FATE_STYLES.get(item.fate, "")),
        )


def _relations(story: Story) -> Iterator[Text]:
    for wait in story.run.waits:
        if wait.run_id is None:
            continue
        pid = "?" if wait.pid is None else wait.pid
        how = ""
        if story.leader is not None and story.leader.run_id == wait.run_id:
            leader = story.leader
            applied = count(len(leader.applied), "revision")
            how = f", which {leader.role or 'ran'}, applied {applied} and {_ENDED[leader.outcome]}"
        host = printable(wait.host or "?")
        yield _field("waited for", f"run {short(wait.run_id)} of {host}:{pid}{how}")
        yield _field("", f"orchestrator logs show {short(wait.run_id)}")
    if story.waiters:
        named = ", ".join(short(waiter) for waiter in story.waiters[:_LISTED_WAITERS])
        more = len(story.waiters) - _LISTED_WAITERS
        tail = f" and {more} more" if more > 0 else ""
        yield _field("awaited by", f"{count(len(story.waiters), 'run')}: {named}{tail}")


def _failure(story: Story) -> Iterator[Text]:
    run = story.run
    if run.error is not None:
        yield Text.assemble(
            (f"{printable(run.error.type)} (exit code {run.error.exit_code})", STYLES["failed"])
        )
        for line in run.error.message.splitlines():
            yield Text(f"  {printable(line)}")
    failure = run.failure
    if failure is not None:
        yield _field("revision", printable(failure.revision or "none"))
        line = "" if failure.line is None else f", line {failure.line}"
        yield _field("where", f"{printable(failure.file or 'not known')}{line}")
    if run.outcome != "ready":
        durable = listed([item.revision for item in run.applied])
        unknown = "not known: the run has no end here" if run.outcome == "unfinished" else "nothing"
        yield _field("durable", durable or unknown)
        for number, advice in enumerate(_next_steps(story)):
            yield _field("" if number else "next", advice)


def _next_steps(story: Story) -> Iterator[str]:
    run = story.run
    if run.outcome == "unfinished":
        yield "it still runs, or it was killed: `orchestrator status` says whether the lock is held"
        yield "a killed run needs no repair: the next one starts from what is durable"
    elif run.outcome == "cancelled":
        yield "`orchestrator run` goes on from what is durable"
    elif run.error is not None:
        advise = _ADVICE.get(run.error.type)
        if advise is None:
            yield "`orchestrator status` shows what the database is at"
        else:
            yield advise(run)


def _after_task_failed(run: Run) -> str:
    if run.failure is not None and run.failure.rolled_back is False:
        return "look at the database first (`orchestrator status`), mend the revision, run again"
    return "mend the revision, then run again: `orchestrator run`"


def _after_peer_failed(run: Run) -> str:
    if not run.waited_for:
        return "find the run that led: `orchestrator logs runs --led`"
    return (
        f"the leader's story has the reason: `orchestrator logs show {short(run.waited_for[-1])}`"
    )


_ADVICE: Final[dict[str, Callable[[Run], str]]] = {
    "TaskFailed": _after_task_failed,
    "PeerFailed": _after_peer_failed,
    "VerificationFailed": lambda _: (
        "compare with `orchestrator status`: what was done did not last"
    ),
    "LockTimeout": lambda _: "`orchestrator status` shows the holder; see `lock_timeout_seconds`",
    "StateRefused": lambda _: "`orchestrator status` and `orchestrator plan`, before anything else",
    "ConfigurationError": lambda _: "mend the configuration, then run again",
    "DatabaseUnavailable": lambda _: "see that the database answers; `connect_timeout_seconds`",
}


def _field(name: str, value: str) -> Text:
    return Text.assemble((f"  {name:<11} ", "bright_black"), value)
