"""The library's face: runs, their reports, their events and how they end."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from orchestrator import (
    ConfigurationError,
    DatabaseReady,
    DatabaseState,
    Event,
    Orchestrator,
    OrchestratorError,
    RunCancelled,
    RunFailed,
    Settings,
    TaskFailed,
)
from orchestrator.events import TERMINAL, RevisionApplied, RunStarted, TaskStarted
from orchestrator.run.resources import Resources
from tests.projects import Project

pytestmark = pytest.mark.anyio

DEADLINE_SECONDS = 30
Make = Callable[..., Orchestrator]


@pytest.fixture
def make(project: Project, monkeypatch: pytest.MonkeyPatch) -> Make:
    """An orchestrator of the project, in this process."""
    monkeypatch.chdir(project.path)
    project.write(
        "migrations/env.py",
        "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
    )

    def make(*, sinks: Any = (), **settings: Any) -> Orchestrator:
        given = {"database_url": project.url, "script_location": "migrations", **settings}
        return Orchestrator(Settings(**given), sinks=sinks)

    return make


def assert_one_run(events: list[Event]) -> None:
    """From the first to the one terminal event, without a gap."""
    assert [event.sequence for event in events] == list(range(len(events)))
    assert len({event.run_id for event in events}) == 1
    assert isinstance(events[0], RunStarted)
    assert [isinstance(event, TERMINAL) for event in events] == [False] * (len(events) - 1) + [True]
    times = [event.at for event in events]
    assert times == sorted(times)


class TestReport:
    """What `run()` returns."""

    async def test_the_events_have_its_figures(
        self, project: Project, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The last event says what the report says; the first was when the run began.

        What was to be done before the first event is part of the run.
        """
        prepare, events = Resources.prepare, list[Event]()

        def prepare_slowly(resources: Resources) -> None:
            time.sleep(0.1)
            prepare(resources)

        monkeypatch.setattr(Resources, "prepare", prepare_slowly)
        project.chain(1)
        report = await make(sinks=[events.append]).run()
        project.revision("r2", "r1", upgrade="raise ValueError")
        with pytest.raises(TaskFailed):
            await make(sinks=[events.append]).run()

        ready, failed = (event for event in events if isinstance(event, TERMINAL))
        assert isinstance(ready, DatabaseReady)
        assert isinstance(failed, RunFailed)
        assert ready.duration_seconds == report.duration_seconds >= 0.1
        assert ready.waited_seconds == report.waited_seconds
        assert failed.duration_seconds >= 0.1
        assert (ready.at - events[0].at).total_seconds() >= 0.1

    async def test_absent_then_current_then_behind(self, project: Project, make: Make) -> None:
        """An absent database is upgraded, a current one left alone, one behind brought up."""
        project.chain(2)

        first = await make().run()
        second = await make().run()
        project.revision("r3", "r2", seconds=0.05)
        third = await make().run()

        assert (first.outcome, first.command, first.led) == ("ready", "run", True)
        assert (first.state_before, first.versions) == (DatabaseState.ABSENT, ("r2",))
        assert [one.revision for one in first.applied] == ["r1", "r2"]
        assert [one.description for one in first.applied] == ["revision r1", "revision r2"]
        assert [task.task for task in first.tasks] == ["upgrade"]
        assert (first.waited_seconds, first.error, first.warnings) == (0.0, None, ())
        assert (second.outcome, second.led, second.applied) == ("ready", False, ())
        assert (second.state_before, second.versions) == (DatabaseState.CURRENT, ("r2",))
        assert (third.state_before, third.versions) == (DatabaseState.BEHIND, ("r3",))
        assert [one.revision for one in third.applied] == ["r3"]
        [applied], [task] = third.applied, third.tasks
        assert 0.05 <= applied.duration_seconds <= task.duration_seconds <= third.duration_seconds
        assert len({first.run_id, second.run_id, third.run_id}) == 3

    async def test_empty(self, project: Project, make: Make) -> None:
        """A file without a table is filled like an absent one."""
        project.chain(1)
        project.database.touch()

        report = await make().run()

        assert (report.state_before, report.versions) == (DatabaseState.EMPTY, ("r1",))

    async def test_single_commands(self, project: Project, make: Make) -> None:
        """Each single command says in its report what it did."""
        project.chain(3)

        upgraded = await make().upgrade("+2")
        downgraded = await make().downgrade("-1")
        stamped = await make().stamp("r3")

        assert (upgraded.command, upgraded.versions) == ("upgrade", ("r2",))
        assert (downgraded.command, downgraded.versions) == ("downgrade", ("r1",))
        assert [one.revision for one in downgraded.applied] == ["r2"]
        assert (stamped.command, stamped.versions, stamped.applied) == ("stamp", ("r3",), ())
        assert all(report.led for report in (upgraded, downgraded, stamped))

    async def test_of_a_failed_run(self, project: Project, make: Make) -> None:
        """The report of a failed run is there, beside the error that is raised."""
        project.chain(1)
        project.revision("r2", "r1", "raise ValueError('no')")

        with pytest.raises(TaskFailed) as caught:
            async with make().start() as run:
                pass

        report = run.report
        assert report is not None
        assert (report.outcome, report.versions, report.applied) == ("failed", (), ())
        assert report.error == caught.value.report()
        assert report.error.exit_code == 1
        assert report.led

    async def test_inspect_and_plan_touch_nothing(self, project: Project, make: Make) -> None:
        """Looking makes no database, no state directory and no journal."""
        project.chain(2)
        before = sorted(project.path.rglob("*.db*"))

        inspection = await make().inspect()
        preview = await make().plan()

        assert (inspection.state, inspection.at_target) == ("absent", False)
        assert [one.revision for one in inspection.pending] == ["r1", "r2"]
        assert (preview.state, preview.tasks) == ("absent", ("upgrade",))
        assert sorted(project.path.rglob("*.db*")) == before == []


class TestEvents:
    """`run.events()`: every event, for every subscriber, whenever it comes."""

    async def test_before_during_and_after(self, project: Project, make: Make) -> None:
        """Several subscribers, early and late, see the same events from first to terminal."""
        project.chain(3, seconds=0.05)
        seen: dict[str, list[Event]] = {"before": [], "during": [], "after": [], "again": []}

        async def follow(name: str) -> None:
            seen[name].extend([event async for event in run.events()])

        with anyio.fail_after(DEADLINE_SECONDS):
            async with make().start() as run, anyio.create_task_group() as tasks:
                tasks.start_soon(follow, "before")
                await run.wait_for(RevisionApplied)
                tasks.start_soon(follow, "during")
            await follow("after")
            await follow("again")

        assert_one_run(seen["before"])
        assert seen["before"] == seen["during"] == seen["after"] == seen["again"]
        assert isinstance(seen["after"][-1], DatabaseReady)
        assert run.run_id == seen["after"][0].run_id

    async def test_sinks_get_the_same(self, project: Project, make: Make) -> None:
        """A sink is called with the events that subscribers and the journal get, in order."""
        project.chain(2)
        sunk: list[Event] = []

        async with make(sinks=[sunk.append]).start() as run:
            seen = [event async for event in run.events()]

        assert sunk == seen
        assert_one_run(seen)
        journal = project.journal()
        assert [line["sequence"] for line in journal] == [event.sequence for event in seen]

    async def test_a_slow_subscriber_holds_up_nobody(self, project: Project, make: Make) -> None:
        """A subscriber that reads nothing but the first event does not stop the run."""
        project.chain(2)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with make().start() as run:
                slow = run.events()
                first = await anext(slow)
                report = await run.result()
                rest = [event async for event in slow]

        assert report.outcome == "ready"
        assert_one_run([first, *rest])

    async def test_failing_sink(
        self, project: Project, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A sink that raises is logged, left out from then on, and never stops a migration."""
        project.chain(2)
        calls: list[Event] = []

        def fail(event: Event) -> None:
            calls.append(event)
            raise RuntimeError("a sink of the test")

        sunk: list[Event] = []
        report = await make(sinks=[fail, sunk.append]).run()

        assert (report.outcome, report.versions) == ("ready", ("r2",))
        assert len(calls) == 1
        assert_one_run(sunk)
        failures = [record for record in caplog.records if record.exc_info]
        assert len(failures) == 1
        assert "a sink of the test" in caplog.text

    async def test_host_logger(
        self, project: Project, make: Make, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The `orchestrator` logger tells each event in one line, with its values as extras."""
        project.chain(1)
        with caplog.at_level(logging.INFO, "orchestrator"):
            await make().run()

        names = [record.orchestrator["event"] for record in caplog.records]
        assert names[0] == "run_started"
        assert names[-1] == "database_ready"
        assert not any("\n" in record.getMessage() for record in caplog.records)

    @pytest.mark.parametrize(
        ("broken", "expected"),
        [("nothing", DatabaseReady), ("revision", RunFailed), ("configuration", RunFailed)],
    )
    async def test_exactly_one_terminal_event(
        self, project: Project, make: Make, broken: str, expected: type[Event]
    ) -> None:
        """Whatever becomes of a run, it ends in one terminal event, and that is the last."""
        project.revision("r1", None, "raise ValueError('no')" if broken == "revision" else "")
        sunk: list[Event] = []
        location = "nowhere" if broken == "configuration" else "migrations"

        raised: list[OrchestratorError] = []
        with anyio.fail_after(DEADLINE_SECONDS):
            try:
                await make(sinks=[sunk.append], script_location=location).run()
            except OrchestratorError as error:
                raised.append(error)

        assert_one_run(sunk)
        assert isinstance(sunk[-1], expected)
        told = [(sunk[-1].error, sunk[-1].exit_code)] if isinstance(sunk[-1], RunFailed) else []
        assert told == [(type(error).__name__, error.exit_code) for error in raised]

    async def test_a_fault_of_ours(
        self, project: Project, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An error that the library does not know ends in a terminal event, too."""
        project.chain(1)
        sunk: list[Event] = []

        def fault(*_: Any) -> None:
            raise ZeroDivisionError("a fault")

        monkeypatch.setattr("orchestrator.run.leader.Leader.lead", fault)
        with pytest.raises(ZeroDivisionError):
            await make(sinks=[sunk.append]).run()

        assert_one_run(sunk)
        assert isinstance(sunk[-1], RunFailed)
        assert (sunk[-1].error, sunk[-1].message) == ("ZeroDivisionError", "a fault")


class TestWaitFor:
    """`run.wait_for(event)`."""

    async def test_found(self, project: Project, make: Make) -> None:
        """The first event of the kind, even when it came before, and the terminal one."""
        project.chain(2)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with make().start() as run:
                ready = await run.wait_for(DatabaseReady)
                applied = await run.wait_for(RevisionApplied)

        assert ready.versions == ("r2",)
        assert applied.revision == "r1"

    async def test_the_run_fails(self, project: Project, make: Make) -> None:
        """A run that fails without the event raises its own error."""
        project.revision("r1", None, "raise ValueError('no')")
        with anyio.fail_after(DEADLINE_SECONDS):
            with pytest.raises(TaskFailed, match="no"):
                async with make().start() as run:
                    await run.wait_for(DatabaseReady)

    async def test_it_ends_without(self, project: Project, make: Make) -> None:
        """A run that ends well without the event raises `LookupError`."""
        project.chain(1)
        with anyio.fail_after(DEADLINE_SECONDS):
            async with make().start() as run:
                with pytest.raises(LookupError, match="RunFailed"):
                    await run.wait_for(RunFailed)


class TestStart:
    """The block of `start()`."""

    async def test_left_early_waits_for_the_end(self, project: Project, make: Make) -> None:
        """Leaving the block waits until the run has ended."""
        project.chain(2, seconds=0.1)
        async with make().start() as run:
            assert run.report is None

        assert run.report is not None
        assert run.report.versions == ("r2",)

    async def test_that_raises_cancels_the_run(self, project: Project, make: Make) -> None:
        """An error of the block is raised as itself, after the run was cancelled."""
        project.chain(5, seconds=0.1)
        with anyio.fail_after(DEADLINE_SECONDS):
            with pytest.raises(KeyError, match="mine"):  # noqa: PT012 - of the block itself
                async with make().start() as run:
                    await run.wait_for(TaskStarted)
                    raise KeyError("mine")

        assert run.report is not None
        assert run.report.outcome == "cancelled"
        events = [event async for event in run.events()]
        assert_one_run(events)
        assert isinstance(events[-1], RunCancelled)
        assert len(run.report.applied) < 5

    async def test_error_of_the_run_is_itself(self, project: Project, make: Make) -> None:
        """A run's error leaves the block as itself, not in an exception group."""
        project.revision("r1", None, "raise ValueError('no')")
        with pytest.raises(TaskFailed) as caught:
            async with make().start() as run:
                assert isinstance([event async for event in run.events()][-1], RunFailed)

        assert isinstance(caught.value.__cause__, ValueError)
        with pytest.raises(TaskFailed):
            await run.result()

    async def test_error_before_the_first_step(self, make: Make) -> None:
        """An error of the preparation leaves the block as itself, too."""
        with pytest.raises(ConfigurationError, match="missing"):
            async with make(script_location="missing").start():
                pass


class TestEventLoop:
    """The event loop stays free."""

    async def test_ticks_while_a_revision_runs(self, project: Project, make: Make) -> None:
        """A heartbeat in the same loop ticks while a revision sleeps in its thread."""
        project.revision("r1", None, "time.sleep(0.5)")
        ticks: list[bool] = []

        async def beat() -> None:
            while True:
                ticks.append(any(isinstance(event, TaskStarted) for event in sunk))
                await anyio.sleep(0.01)

        sunk: list[Event] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(beat)
            await make(sinks=[sunk.append]).run()
            tasks.cancel_scope.cancel()

        # 50 are expected in the half second; a loop that is held has one.
        assert sum(ticks) >= 10

    async def test_many_runs_in_one_process(self, project: Project, make: Make) -> None:
        """Runs in one event loop wait for one another like those of many processes."""
        project.chain(2, seconds=0.1)
        reports = []

        async def run() -> None:
            reports.append(await make().run())

        with anyio.fail_after(DEADLINE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(run)

        assert sum(report.led for report in reports) == 1
        assert {report.versions for report in reports} == {("r2",)}


@pytest.mark.anyio
@pytest.mark.parametrize(
    "settings",
    [
        {"database_url": "sqlite:///file:a%00b.db?uri=true"},
        {"database_url": "sqlite:///\udcff.db", "journal": "\udcfe.jsonl"},
        {"database_url": "postgresql://user:hunter2\udcff@host/db"},
        {"database_url": "sqlite:///a.db", "script_location": "nowhere"},
    ],
    ids=["null character", "not UTF-8", "password not UTF-8", "no scripts"],
)
async def test_there_is_always_a_terminal_event(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is wrong with what a run is given, who reads its events comes to their end."""
    monkeypatch.chdir(tmp_path)
    events: list[Event] = []

    with anyio.fail_after(60), pytest.raises(ConfigurationError):
        async with Orchestrator(Settings(**settings)).start() as run:
            events.extend([event async for event in run.events()])

    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFailed)


@pytest.mark.anyio
async def test_a_fault_before_the_first_event_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of ours, that nobody has thought of."""
    monkeypatch.chdir(tmp_path)

    def fault(_: Resources) -> None:
        raise ValueError("embedded null byte")

    monkeypatch.setattr(Resources, "prepare", fault)
    events: list[Event] = []

    with anyio.fail_after(60), pytest.raises(ValueError, match="null byte"):
        async with Orchestrator(Settings(database_url="sqlite:///a.db")).start() as run:
            events.extend([event async for event in run.events()])

    assert isinstance(events[-1], RunFailed)


def url_with(project: Project, password: str) -> str:
    return f"sqlite:///file:{project.database}?password={password}&uri=true"


TELLS_ITS_PASSWORD = """
from alembic import context
url = context.config.get_main_option("sqlalchemy.url")
try:
    raise ValueError("cannot use " + url)
except ValueError as error:
    password = url.partition("password=")[2].partition("&")[0]
    raise RuntimeError("no " + password + " here") from error
"""


@pytest.mark.anyio
@pytest.mark.parametrize("password", ["hunter2-hunter2", "s", "database", "postgres"])
async def test_what_is_raised_holds_no_password(
    project: Project, make: Make, password: str
) -> None:
    """Nor does what led to it, for servers print that, too; and no word of ours is missing."""
    project.revision("r1", None, TELLS_ITS_PASSWORD)
    with pytest.raises(TaskFailed) as raised:
        await make(database_url=url_with(project, password)).run()

    printed = "".join(traceback.format_exception(raised.value))
    assert "The database is as it was before. Mend the revision and start again." in printed
    assert f"no {password}" not in printed
    assert f"={password}" not in printed
    assert "/app.db?password=***&uri=true" in printed
    assert ("RuntimeError: no *** here" in printed) == ("hunter2" in password)
    assert ("RuntimeError: [not quoted" in printed) == ("hunter2" not in password)


@pytest.mark.anyio
@pytest.mark.parametrize("password", ["s", "failed", "database"])
async def test_a_password_that_nobody_tells_changes_no_word(
    project: Project, make: Make, password: str
) -> None:
    """What is told is the same, whatever word the password is."""
    project.revision("r1", None, "raise ValueError('messages of postgres')")
    told = []
    for secret in (password, "hunter2-hunter2"):
        with pytest.raises(TaskFailed) as raised:
            await make(database_url=url_with(project, secret)).run()
        told.append(str(raised.value))

    assert told[0] == told[1]
    assert "ValueError: messages of postgres" in told[0]


@pytest.mark.parametrize("setting", ["state_dir", "journal", "alembic_config"])
def test_a_null_character_is_refused_with_the_setting(setting: str) -> None:
    """Before anything is opened by that name."""
    with pytest.raises(ConfigurationError, match=setting):
        Settings(**{setting: "a\0b"})
