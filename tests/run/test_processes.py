"""Real processes that start at once, die at any instant, and meet what others left behind."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.projects import Finished, Project, finish, make_project
from tests.zygote import Zygote

STARTERS = 8
REPETITIONS = 5
DEADLINE_SECONDS = 60.0


def wait_until(condition: Callable[[], Any], what: str) -> None:
    """Wait for a condition, or fail after the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s: {what}"
        time.sleep(0.005)


def versions(project: Project) -> list[str]:
    with sqlite3.connect(project.database) as connection:
        rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    connection.close()
    return sorted(row[0] for row in rows)


def dump(project: Project) -> list[str]:
    """Schema and rows of the database, as SQL."""
    connection = sqlite3.connect(project.database)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return list(connection.iterdump())
    finally:
        connection.close()


def assert_all_ready(ended: list[Finished], head: str) -> list[dict[str, Any]]:
    """All exits are 0, and every report says that its database is at the head."""
    assert [one.code for one in ended] == [0] * len(ended), [one.stderr for one in ended]
    reports = [one.json for one in ended]
    assert {tuple(report["versions"]) for report in reports} == {(head,)}
    assert {report["outcome"] for report in reports} == {"ready"}
    return reports


class TestStartedTogether:
    """8 processes of `orchestrator run` at once, with revisions of 0.2 s each."""

    @pytest.mark.slow
    @pytest.mark.parametrize("repetition", range(REPETITIONS))
    @pytest.mark.parametrize("state", ["absent", "behind", "current"])
    def test_one_leads_and_all_are_ready(
        self, project: Project, zygote: Zygote, state: str, repetition: int
    ) -> None:
        """All exit with 0 at head; exactly one led, or none where there was nothing to do."""
        project.chain(1, seconds=0.0 if state == "behind" else 0.2)
        if state == "behind":
            assert_all_ready(zygote.run(project, "run", "--json", processes=1), "r1")
        project.revision("r2", "r1", seconds=0.2)
        if state == "current":
            assert_all_ready(zygote.run(project, "run", "--json", processes=1), "r2")

        ended = zygote.run(project, "run", "--json", processes=STARTERS)

        reports = assert_all_ready(ended, "r2")
        leaders = [report for report in reports if report["led"]]
        assert len(leaders) == (0 if state == "current" else 1)
        applied = [one["revision"] for report in reports for one in report["applied"]]
        assert applied == {"absent": ["r1", "r2"], "behind": ["r2"], "current": []}[state]
        assert versions(project) == ["r2"]

    def test_processes_of_their_own(self, project: Project) -> None:
        """The same with interpreters that are started one by one."""
        project.chain(2, seconds=0.4)
        started = [project.start("run", "--json") for _ in range(4)]

        reports = assert_all_ready([finish(process) for process in started], "r2")

        assert sum(report["led"] for report in reports) == 1

    def test_a_failing_migration_is_tried_once(self, project: Project, zygote: Zygote) -> None:
        """Those who waited adopt the leader's failure: one TaskFailed, the others PeerFailed."""
        project.revision("r1", None, "time.sleep(0.7)\nraise ValueError('no')")

        ended = zygote.run(project, "run", "--json", processes=STARTERS)

        assert {one.code for one in ended} == {1}
        errors = sorted(one.json["error"]["type"] for one in ended)
        assert errors == ["PeerFailed"] * (STARTERS - 1) + ["TaskFailed"]
        assert not any("Traceback" in one.stderr for one in ended)


SLOW_SEED = """
op.create_table("seed", sa.Column("id", sa.Integer, primary_key=True), sa.Column("n", sa.Text))
op.execute("INSERT INTO seed (n) VALUES ('one'), ('two')")
import os, pathlib
if "HANG" in os.environ:
    pathlib.Path(os.environ["HANG"]).touch()
    time.sleep(600)
op.execute("UPDATE seed SET n = n || '!'")
"""


class TestKilled:
    """A leader that is killed leaves the database as it was, and the next run succeeds."""

    def test_in_the_middle_of_a_revision(self, tmp_path: Path, zygote: Zygote) -> None:
        """Killed in the second revision of an upgrade: nothing is left, and nothing is lost."""
        killed, undisturbed = make_project(tmp_path / "killed"), make_project(tmp_path / "other")
        for project in (killed, undisturbed):
            project.revision("r1", None)
            project.revision("r2", "r1", SLOW_SEED)
            project.revision("r3", "r2")
        marker = tmp_path / "marker"

        [process] = zygote.start(killed, "run", HANG=str(marker))
        wait_until(marker.exists, "the revision runs")
        process.send(signal.SIGKILL)

        assert process.finish().code == -signal.SIGKILL
        assert dump(killed) == ["BEGIN TRANSACTION;", "COMMIT;"]
        [again] = zygote.run(killed, "run", "--json", processes=1)
        assert (again.code, again.json["led"]) == (0, True), again.stderr
        assert zygote.run(undisturbed, "run", processes=1)[0].code == 0
        assert dump(killed) == dump(undisturbed)
        assert "'two!'" in "".join(dump(killed))

    def test_with_waiters(self, project: Project, tmp_path: Path, zygote: Zygote) -> None:
        """Those who wait for a leader that is killed take over: one leads, none fails."""
        project.revision("r1", None, SLOW_SEED)
        marker = tmp_path / "marker"
        [leader] = zygote.start(project, "run", HANG=str(marker))
        wait_until(marker.exists, "the revision runs")
        waiters = zygote.start(project, "run", "--json", processes=3)
        wait_until(lambda: len(waits(project)) == len(waiters), "all of them wait")
        leader.send(signal.SIGKILL)
        leader.finish()

        reports = assert_all_ready([process.finish() for process in waiters], "r1")

        assert sum(report["led"] for report in reports) == 1

    def test_between_create_and_stamp(self, tmp_path: Path, zygote: Zygote) -> None:
        """Killed when the tables are made and the stamp is not written: nothing is left."""
        killed, undisturbed = make_project(tmp_path / "killed"), make_project(tmp_path / "other")
        for project in (killed, undisturbed):
            project.write("models.py", MODELS)
            project.revision("r1", None)
        marker = tmp_path / "marker"
        prelude = killed.write("prelude.py", HANG_BEFORE_STAMP)
        create = ("run", "--bootstrap", "create", "--json")

        [process] = zygote.start(killed, *create, prelude=prelude, HANG=str(marker))
        wait_until(marker.exists, "the stamp begins")
        process.send(signal.SIGKILL)

        assert process.finish().code == -signal.SIGKILL
        assert dump(killed) == ["BEGIN TRANSACTION;", "COMMIT;"]
        [again] = zygote.run(killed, *create, processes=1)
        assert (again.code, again.json["state_before"]) == (0, "empty"), again.stderr
        assert [task["task"] for task in again.json["tasks"]] == ["create", "stamp"]
        assert zygote.run(undisturbed, *create, processes=1)[0].code == 0
        assert dump(killed) == dump(undisturbed)
        assert versions(killed) == ["r1"]


MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
sa.Table("t_r1", metadata, sa.Column("id", sa.Integer, primary_key=True))
"""

HANG_BEFORE_STAMP = """
import os, time
from pathlib import Path
from sqlalchemy import inspect
from orchestrator.decision.plan import Task
from orchestrator.tasks import TASKS

def hang(context):
    assert inspect(context.environment.connection).has_table("t_r1")
    Path(os.environ["HANG"]).touch()
    time.sleep(600)
    yield

TASKS[Task.STAMP] = hang
"""

SLOW_PUBLICATION = """
import os, time
from pathlib import Path
from orchestrator.host.publication import Publication

first_write = Publication.__init__

def late(self, *args, **kwargs):
    Path(os.environ["THERE"]).touch()
    while not Path(os.environ["GO"]).exists():
        time.sleep(0.01)
    first_write(self, *args, **kwargs)

Publication.__init__ = late
"""


class TestRecordOfAnEarlierStart:
    """Between a leader's acquire and its first write, others see the record before it."""

    @pytest.mark.parametrize("earlier", ["ready", "failed"])
    def test_is_never_taken_for_the_leaders(
        self, project: Project, tmp_path: Path, zygote: Zygote, earlier: str
    ) -> None:
        """A waiter that meets it goes on waiting, and is ready only when the leader is."""
        project.revision("r1", None)
        if earlier == "ready":
            assert zygote.run(project, "run", processes=1)[0].code == 0
            project.revision("r2", "r1", seconds=0.2)
        else:
            # The same scripts as those of the run that is waited for: only the run differs.
            broken = "import os\nif 'BROKEN' in os.environ: raise ValueError('no')"
            project.revision("r2", "r1", broken)
            assert zygote.start(project, "run", BROKEN="yes")[0].finish().code == 1
        record = json.loads((project.state / "run.json").read_text())
        assert record["outcome"] == earlier
        prelude = project.write("prelude.py", SLOW_PUBLICATION)
        there, go = tmp_path / "there", tmp_path / "go"

        [leader] = zygote.start(
            project, "run", "--json", prelude=prelude, THERE=str(there), GO=str(go)
        )
        wait_until(there.exists, "the leader holds the lock")
        waiters = zygote.start(project, "run", "--json", processes=2)
        # The second word of each comes after a second of looks at the record.
        wait_until(
            lambda: all(waits(project).get(process.pid, 0) >= 2 for process in waiters),
            "both wait for more than a second",
        )
        assert json.loads((project.state / "run.json").read_text()) == record
        assert all(process.runs for process in waiters)
        go.touch()

        reports = assert_all_ready([process.finish() for process in (leader, *waiters)], "r2")

        assert [report["led"] for report in reports] == [True, False, False]


def waits(project: Project) -> Counter[int]:
    """How often each process has told that it waits."""
    return Counter(line["pid"] for line in project.journal() if line["event"] == "lock_waiting")
