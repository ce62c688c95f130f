"""`orchestrator downgrade`: asked before tables go, where there is somebody to ask."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Iterator

import pytest

from tests.projects import Project
from tests.zygote import Forked, Zygote

DEADLINE_SECONDS = 60.0
QUESTION = "Go on? [y/N]"
STYLE = re.compile(r"\x1b\[[\d;]*m")


class Terminal:
    """A terminal, and what was written to it."""

    def __init__(self) -> None:
        self._master, self._slave = pty.openpty()
        self.written = ""

    @property
    def name(self) -> str:
        return os.ttyname(self._slave)

    def shows(self, text: str, process: Forked) -> bool:
        """Whether it shows a text before the process ends."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text not in self.written and time.monotonic() < deadline:
            runs = process.runs
            ready, _, _ = select.select([self._master], [], [], 0.05)
            if ready:
                self.written += STYLE.sub("", os.read(self._master, 65536).decode())
            elif not runs:
                break
        return text in self.written

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def migrated(project: Project) -> Project:
    """At r2, which makes a table; the downgrade of r1 drops none."""
    project.revision("r1", None, downgrade="pass")
    project.revision("r2", "r1")
    assert project.run("run").code == 0
    return project


def start(
    project: Project, zygote: Zygote, terminal: Terminal, *arguments: str, streams: tuple[int, ...]
) -> Forked:
    """Start a command with these of its streams on the terminal."""
    prelude = project.write(
        "prelude.py",
        f"""
        import os
        tty = os.open({terminal.name!r}, os.O_RDWR | os.O_NOCTTY)
        for number in {streams}:
            os.dup2(tty, number)
        """,
    )
    [process] = zygote.start(project, *arguments, prelude=prelude)
    return process


def at(project: Project) -> list[str]:
    found: list[str] = project.run("status", "--json").json["versions"]
    return found


@pytest.mark.parametrize(
    ("answer", "goes_on"), [("y", True), ("YES", True), ("n", False), ("", False)]
)
def test_it_asks_before_tables_go(
    migrated: Project, zygote: Zygote, terminal: Terminal, answer: str, goes_on: bool
) -> None:
    """It tells which, and goes on for a yes; else it ends as interrupted, and nothing is done."""
    process = start(migrated, zygote, terminal, "downgrade", "base", streams=(0, 2))
    assert terminal.shows(QUESTION, process)
    terminal.type(f"{answer}\n")
    done = process.finish()

    assert "drops table t_r2  (r2)" in terminal.written
    assert done.code == (0 if goes_on else 130)
    assert at(migrated) == ([] if goes_on else ["r2"])
    if not goes_on:
        assert terminal.shows("Stopped before anything was done.", process)


def test_who_says_no_gets_a_document_all_the_same(
    migrated: Project, zygote: Zygote, terminal: Terminal
) -> None:
    """With `--json` there is one on stdout, whatever the answer."""
    process = start(migrated, zygote, terminal, "downgrade", "base", "--json", streams=(0, 2))
    assert terminal.shows(QUESTION, process)
    terminal.type("n\n")
    done = process.finish()

    assert done.code == 130
    assert (done.json["outcome"], done.json["command"]) == ("cancelled", "downgrade")


def test_the_plan_of_a_downgrade_is_an_event(migrated: Project) -> None:
    """It names the revisions that are taken back, in their order."""
    assert migrated.run("downgrade", "base").code == 0

    [planned] = [one for one in migrated.journal() if one["event"] == "plan_made"][-1:]
    assert (planned["tasks"], planned["revisions"]) == (["downgrade"], ["r2", "r1"])


@pytest.mark.parametrize(
    ("arguments", "streams"),
    [
        (("downgrade", "base", "--yes"), (0, 2)),
        (("downgrade", "base"), (2,)),
        (("downgrade", "base"), (0,)),
    ],
    ids=["who has said yes", "no terminal to answer on", "no terminal to ask on"],
)
def test_it_does_not_ask(
    migrated: Project,
    zygote: Zygote,
    terminal: Terminal,
    arguments: tuple[str, ...],
    streams: tuple[int, ...],
) -> None:
    """Where it was told, and where nobody would answer: it goes on."""
    process = start(migrated, zygote, terminal, *arguments, streams=streams)

    assert not terminal.shows(QUESTION, process)
    assert process.finish().code == 0
    assert at(migrated) == []


def test_nothing_goes(migrated: Project, zygote: Zygote, terminal: Terminal) -> None:
    """A downgrade that shows no table and no column that goes is not asked about."""
    assert migrated.run("downgrade", "r1").code == 0
    process = start(migrated, zygote, terminal, "downgrade", "base", streams=(0, 2))

    assert not terminal.shows(QUESTION, process)
    assert process.finish().code == 0


def test_a_refusal_is_told_by_the_downgrade_itself(
    project: Project, zygote: Zygote, terminal: Terminal
) -> None:
    """Without a question, and with its exit code."""
    project.revision("r1", None)
    process = start(project, zygote, terminal, "downgrade", "base", streams=(0, 2))

    assert terminal.shows("there is nothing to downgrade", process)
    assert process.finish().code == 4
    assert QUESTION not in terminal.written


def test_the_plan_of_a_downgrade(migrated: Project) -> None:
    """`plan --downgrade` tells it without doing it; its SQL too, and as JSON."""
    told = migrated.run("plan", "--downgrade", "-1")
    sql = migrated.run("plan", "--downgrade", "-1", "--sql")
    as_json = migrated.run("plan", "--downgrade", "base", "--json")

    assert told.stdout.splitlines() == [
        "downgrade:",
        "r2  revision r2",
        "drops table t_r2  (r2)",
    ]
    assert "DROP TABLE t_r2;" in sql.stdout
    assert [one["revision"] for one in as_json.json["revisions"]] == ["r2", "r1"]
    assert as_json.json["drops"] == [{"table": "t_r2", "column": None, "revision": "r2"}]
    assert at(migrated) == ["r2"]
