"""One event in one readable line, wherever it comes from: a run in progress or a journal.

Nothing in an event is trusted: what a terminal would act on is shown escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from orchestrator.timeline.entries import applied, number, text, texts, whole

_SHORT_ID: Final = 8
_LISTED: Final = 6
"""So many names of a list are told; of a longer one the first, the last, and how many they are."""
_MINUTE: Final = 60
_HOUR: Final = 3600
_ENVELOPE: Final = frozenset(
    {"at", "event", "level", "host", "pid", "database", "release", "run_id", "sequence"}
)


def printable(value: object) -> str:
    """The value in one line, with everything escaped that is not a visible character.

    That goes for control characters, terminal escapes, line ends, and marks that turn the
    direction of writing.
    """
    shown = value if isinstance(value, str) else str(value)
    if shown.isprintable():
        return shown
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in shown
    )


def duration(seconds: float) -> str:
    """A duration for people: `0.003 s`, `0.21 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 0:
        return f"-{duration(-seconds)}"
    for below, decimals in ((0.01, 3), (10, 2), (_MINUTE, 1)):
        if seconds < below:
            return f"{seconds:.{decimals}f} s"
    if seconds < _HOUR:
        return f"{int(seconds // _MINUTE)} min {int(seconds % _MINUTE):02d} s"
    return f"{int(seconds // _HOUR)} h {int(seconds % _HOUR // _MINUTE):02d} min"


def short(run_id: str | None) -> str:
    """The beginning of a run id, which is enough to name it in most journals."""
    return printable(run_id or "?")[:_SHORT_ID]


def process(values: Mapping[str, Any]) -> str:
    """`host:pid` of an envelope or a holder."""
    pid = whole(values, "pid")
    return f"{printable(text(values, 'host') or '?')}:{'?' if pid is None else pid}"


def count(number_of: int, noun: str) -> str:
    """`1 revision`, `2 revisions`, `no revision`."""
    return f"{number_of or 'no'} {noun}{'s' if number_of > 1 else ''}"


def listed(names: Sequence[str], empty: str = "", *, separator: str = ", ") -> str:
    """Revisions: `a, b, c`, and of a list that nobody would read `a, …, z (100 revisions)`."""
    shown = [printable(name) for name in names]
    if len(shown) > _LISTED:
        ends = separator.join((shown[0], "…", shown[-1]))
        return f"{ends} ({count(len(shown), 'revision')})"
    return separator.join(shown) or empty


def first_line(message: str) -> str:
    """The first line of a message that says something."""
    lines = (line.strip() for line in message.splitlines())
    return printable(next(filter(None, lines), "")) or "no message"


def sentence(name: str, values: Mapping[str, Any]) -> str:
    """What happened, in one line without markup. An unknown event shows its fields."""
    tell = _TOLD_BY.get(name)
    return _unknown(name, values) if tell is None else tell(values)


def brief(name: str, values: Mapping[str, Any]) -> str:
    """As `sentence`, but for why something failed: where that is told beside it."""
    if name == "task_failed":
        return f"{_word(values, 'task')} failed"
    if name == "run_failed":
        return f"failed with exit code {_code(values)}"
    return sentence(name, values)


def _word(values: Mapping[str, Any], key: str) -> str:
    return printable(text(values, key) or "?")


def _code(values: Mapping[str, Any]) -> str:
    code = whole(values, "exit_code")
    return "?" if code is None else str(code)


def _message(values: Mapping[str, Any]) -> str:
    return first_line(text(values, "message") or "")


def _list(values: Mapping[str, Any], key: str, empty: str = "no version") -> str:
    return listed(texts(values, key), empty)


def _span(values: Mapping[str, Any], key: str) -> str:
    value = number(values, key)
    return "?" if value is None else duration(value)


def _unknown(name: str, values: Mapping[str, Any]) -> str:
    fields = " ".join(
        f"{printable(key)}={printable(_brief(value))}"
        for key, value in values.items()
        if key not in _ENVELOPE
    )
    return f"{printable(name)} {fields}".rstrip()


def _brief(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _run_started(values: Mapping[str, Any]) -> str:
    verb = "follows" if values.get("mode") == "follow" else "started"
    timeout = number(values, "lock_timeout_seconds")
    limit = "" if timeout is None else f", waits at most {duration(timeout)}"
    return f"{verb}: {_word(values, 'command')} to {_word(values, 'target')}{limit}"


def _state_observed(values: Mapping[str, Any]) -> str:
    state = _word(values, "state")
    versions, target = _list(values, "versions"), _list(values, "target_revisions", "nothing")
    where = f"at {versions}" if state == "current" else f"at {versions}, target {target}"
    lock = ", seen under the lock" if values.get("under_lock") is True else ""
    return f"database is {state}: {where}{lock}"


def _lock_waiting(values: Mapping[str, Any]) -> str:
    holder = values.get("holder")
    if reason := text(values, "reason"):
        whom = f"the database: {printable(reason)}"
    elif values.get("lock") == "database":
        whom = "the database to reach its target; "
        whom += f"{process(holder)} is at work" if isinstance(holder, dict) else "nobody is at work"
    elif not isinstance(holder, dict):
        whom = f"the {_word(values, 'lock')} lock, whose holder is not known yet"
    else:
        whom = f"{process(holder)}, run {short(text(holder, 'run_id'))}"
        release, revision = text(holder, "release"), text(holder, "revision")
        whom += f", release {printable(release)}" if release else ""
        whom += f", at revision {printable(revision)}" if revision else ""
        blocked = text(holder, "blocked_by")
        whom += f", kept out by {printable(blocked)}" if blocked else ""
    return f"waiting for {whom} (waited {_span(values, 'waited_seconds')})"


def _lock_acquired(values: Mapping[str, Any]) -> str:
    return f"holds the {_word(values, 'lock')} lock after {_span(values, 'waited_seconds')}"


def _plan_made(values: Mapping[str, Any]) -> str:
    revisions = texts(values, "revisions")
    these = f": {_list(values, 'revisions')}" if revisions else ""
    return f"plan: {_list(values, 'tasks', 'nothing to do')}{these}"


def _task_started(values: Mapping[str, Any]) -> str:
    return f"{_word(values, 'task')} began"


def _revision(values: Mapping[str, Any]) -> str:
    position, total = whole(values, "position"), whole(values, "total")
    of = f"{'?' if position is None else position}/{'?' if total is None else total}"
    about = printable(text(values, "description") or "")
    return f"{_word(values, 'task')} {of}: {_word(values, 'revision')} {about}".rstrip()


def _revision_started(values: Mapping[str, Any]) -> str:
    return f"{_revision(values)} began"


def _revision_applied(values: Mapping[str, Any]) -> str:
    return f"{_revision(values)} ran in {_span(values, 'duration_seconds')}"


def _revision_running(values: Mapping[str, Any]) -> str:
    at = f", at {printable(statement)}" if (statement := text(values, "statement")) else ""
    percent = number(values, "percent")
    far = f": {percent:.0f} %" if percent is not None else ""
    phase = f" ({printable(told)}{far})" if (told := text(values, "phase")) else ""
    spent = _span(values, "elapsed_seconds")
    return f"{_word(values, 'task')}: {_word(values, 'revision')} runs for {spent}{at}{phase}"


def _ddl_blocked(values: Mapping[str, Any]) -> str:
    tries = whole(values, "attempt")
    count_of = "?" if tries is None else str(tries)
    return (
        f"kept out by {_blockers(values)}: {_word(values, 'statement')}; rolled back, try "
        f"{count_of} after {_span(values, 'waited_seconds')}, the next in "
        f"{_span(values, 'retry_in_seconds')}"
    )


def _blockers(values: Mapping[str, Any]) -> str:
    found = values.get("blockers")
    told = [blocker(one) for one in found if isinstance(one, dict)] if found else []
    return ", ".join(told) or "somebody"


def blocker(values: Mapping[str, Any]) -> str:
    """A session that is in the way: its number, user, program and last query."""
    told = f"session {whole(values, 'pid')}"
    user, application = text(values, "user"), text(values, "application")
    told += f" of {printable(user)}" if user else ""
    told += f" ({printable(application)})" if application else ""
    state, query = text(values, "state"), text(values, "query")
    told += f", {printable(state)}" if state else ""
    told += f", {printable(query)}" if query else ""
    return told


def _task_succeeded(values: Mapping[str, Any]) -> str:
    return f"{_word(values, 'task')} done in {_span(values, 'duration_seconds')}"


def _task_failed(values: Mapping[str, Any]) -> str:
    revision, file, line = text(values, "revision"), text(values, "file"), whole(values, "line")
    at = f" at revision {printable(revision)}" if revision else ""
    where = f" ({printable(file)}{'' if line is None else f':{line}'})" if file else ""
    rolled_back = values.get("rolled_back")
    undone = {"True": "; rolled back", "False": "; NOT rolled back"}.get(str(rolled_back), "")
    what = _message(values)
    if text(values, "error") != "TaskFailed":  # whose message says all of this itself
        what = f"{_word(values, 'task')} failed{at}: {_word(values, 'error')}: {what}"
    return f"{what}{where}{undone}"


def _warning(values: Mapping[str, Any]) -> str:
    return f"warning: {_message(values)}"


def _lock_released(values: Mapping[str, Any]) -> str:
    return f"released the {_word(values, 'lock')} lock after {_span(values, 'held_seconds')}"


def _database_ready(values: Mapping[str, Any]) -> str:
    durable = count(len(applied(values)), "revision")
    did = f"led, {durable} ran" if values.get("led") is True else "nothing was left to do"
    spent = _span(values, "duration_seconds")
    return f"ready at {_list(values, 'versions', 'base')} after {spent}: {did}"


def _run_failed(values: Mapping[str, Any]) -> str:
    kept = f"; durable all the same: {_durable(values)}" if applied(values) else ""
    return (
        f"failed with exit code {_code(values)}: {_word(values, 'error')}: {_message(values)}{kept}"
    )


def _run_cancelled(values: Mapping[str, Any]) -> str:
    return f"cancelled; durable: {_durable(values)}"


def _durable(values: Mapping[str, Any]) -> str:
    return listed([item.revision for item in applied(values)], "nothing")


_TOLD_BY: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "run_started": _run_started,
    "state_observed": _state_observed,
    "lock_waiting": _lock_waiting,
    "lock_acquired": _lock_acquired,
    "plan_made": _plan_made,
    "task_started": _task_started,
    "revision_started": _revision_started,
    "revision_applied": _revision_applied,
    "revision_running": _revision_running,
    "ddl_blocked": _ddl_blocked,
    "task_succeeded": _task_succeeded,
    "task_failed": _task_failed,
    "warning": _warning,
    "lock_released": _lock_released,
    "database_ready": _database_ready,
    "run_failed": _run_failed,
    "run_cancelled": _run_cancelled,
}
