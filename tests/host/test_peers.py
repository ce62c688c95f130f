"""What those who wait make of the record: whom they name, and which outcome they adopt."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.decision.job import Command, Policy
from orchestrator.errors import PeerFailed
from orchestrator.events import Event, LockWaiting
from orchestrator.host.peers import Peers, Waiter
from orchestrator.host.record import Record, RecordFile
from orchestrator.locks.base import Lock
from orchestrator.results import Ended, ErrorReport, Holder
from orchestrator.run.work import Job

ERROR = ErrorReport(type="TaskFailed", message="no such column", exit_code=1)
JOB = Job(command=Command.RUN, target="heads", policy=Policy())


def record(run_id: str, outcome: str | None = None, **changes: Any) -> Record:
    """A record of a leader with our scripts, our target and our command."""
    values: dict[str, Any] = {
        "target": "heads",
        "settings": "ours",
        "fingerprint": "ours",
        **changes,
    }
    if outcome == "failed":
        values = {"error": ERROR, "scripts_failed": True, **values}
    return Record(
        holder=Holder(
            run_id=run_id,
            host="h",
            pid=7,
            command=values.pop("command", "run"),
            since=datetime(2026, 1, 1, tzinfo=UTC),
            revision="r2",
        ),
        outcome=outcome,
        **values,
    )


class Scene:
    """A record, and a run that looks at it."""

    def __init__(self, path: Path, before: Record | None) -> None:
        self.file = RecordFile(path)
        if before is not None:
            self.file.write(before)
        self.events: list[Event] = []
        self.warnings: list[str] = []
        self.at_target = False
        self.probes = 0
        self.seen: Holder | None = None
        self.peers = Peers(RecordFile(path), emit=self.events.append, warn=self.warnings.append)

    def waiter(
        self, *, job: Job = JOB, adopts_failures: bool = True, settings: str | None = "ours"
    ) -> Waiter:
        async def probe() -> Ended | None:
            self.probes += 1
            return Ended(versions=("r2",)) if self.at_target else None

        async def fingerprint() -> str:
            return "ours"

        async def see(_: Lock) -> Holder | None:
            return self.seen

        return Waiter(
            self.peers,
            job,
            adopts_failures=adopts_failures,
            settings=settings,
            probe=probe,
            fingerprint=fingerprint,
            see=see,
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


class TestSuccess:
    """A success in the record is a hint: the database is asked."""

    pytestmark = pytest.mark.anyio

    async def test_is_proved(self, path: Path) -> None:
        """Ready without the lock, if the database is at its target."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        assert not await waiter.look()
        scene.file.write(record("leader", "ready"))
        scene.at_target = True
        assert await waiter.look()
        assert waiter.adopted().versions == ("r2",)

    async def test_is_not_believed(self, path: Path) -> None:
        """Whoever does not find the database at its own target goes on to the lock."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        scene.file.write(record("leader", "ready"))
        assert not await waiter.look()
        assert not await waiter.look()
        assert scene.probes == 1  # asked once for each run that ended, not at each look
        with pytest.raises(RuntimeError):
            waiter.adopted()

    async def test_of_an_earlier_start(self, path: Path) -> None:
        """It is not even a hint: this run has probed since."""
        scene = Scene(path, record("earlier", "ready"))
        scene.at_target = True
        assert not await scene.waiter().look()
        assert scene.probes == 0


class TestFailure:
    """A failure is adopted if it was the same work, while this run waited for it."""

    pytestmark = pytest.mark.anyio

    async def test_of_the_leader(self, path: Path) -> None:
        """It carries the leader's error, revision, host and pid."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        scene.file.write(record("leader", "failed"))
        with pytest.raises(PeerFailed) as caught:
            await waiter.look()
        assert caught.value.error == ERROR
        leader = caught.value.leader
        assert (leader.host, leader.pid, leader.revision) == ("h", 7, "r2")
        assert "no such column" in str(caught.value)
        assert "h pid 7" in str(caught.value)
        assert "revision r2" in str(caught.value)

    async def test_of_a_leader_that_was_at_work_before(self, path: Path) -> None:
        """Whoever comes while the leader works waits for it like all the others."""
        scene = Scene(path, record("leader"))
        waiter = scene.waiter()
        assert not await waiter.look()
        scene.file.write(record("leader", "failed"))
        with pytest.raises(PeerFailed):
            await waiter.look()

    async def test_that_stood_there_before(self, path: Path) -> None:
        """A process started afterwards tries again, and so it does when the lock is free."""
        scene = Scene(path, record("earlier", "failed"))
        waiter = scene.waiter()
        assert not await waiter.look()
        scene.file.write(record("leader"))
        assert not await waiter.look()

    async def test_of_the_next_leader(self, path: Path) -> None:
        """One that stood there before does not hide the one that follows."""
        scene = Scene(path, record("earlier", "failed"))
        waiter = scene.waiter()
        scene.file.write(record("leader", "failed"))
        with pytest.raises(PeerFailed) as caught:
            await waiter.look()
        assert caught.value.leader.run_id == "leader"

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"fingerprint": "theirs"}, id="other scripts"),
            pytest.param({"fingerprint": None}, id="no scripts"),
            pytest.param({"target": "r1"}, id="other target"),
            pytest.param({"command": "upgrade"}, id="other command"),
            pytest.param({"settings": "theirs"}, id="other settings"),
            pytest.param({"settings": None}, id="no settings"),
            pytest.param({"error": None}, id="no error"),
            pytest.param({"scripts_failed": False}, id="not of the scripts"),
        ],
    )
    async def test_of_other_work(self, path: Path, other: dict[str, Any]) -> None:
        """Another release, another target, another command: not ours to fail with."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        scene.file.write(record("leader", "failed", **other))
        assert not await waiter.look()

    async def test_of_settings_that_cannot_be_compared(self, path: Path) -> None:
        """What neither tells is not the same."""
        scene = Scene(path, None)
        waiter = scene.waiter(settings=None)
        scene.file.write(record("leader", "failed", settings=None))
        assert not await waiter.look()

    async def test_of_any_kind(self, path: Path) -> None:
        """What counts is that the scripts failed, and not the error's name."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        error = ErrorReport(type="ConfigurationError", message="x", exit_code=2)
        scene.file.write(record("leader", "failed", error=error))
        with pytest.raises(PeerFailed):
            await waiter.look()

    @pytest.mark.parametrize("outcome", ["cancelled", "exploded"])
    async def test_that_is_none(self, path: Path, outcome: str) -> None:
        """A leader that was cancelled leaves the work to the next; so does an unknown word."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        scene.file.write(record("leader", outcome))
        assert not await waiter.look()

    async def test_where_each_tries_for_itself(self, path: Path) -> None:
        """With `on_peer_failure = "retry"` nothing is adopted."""
        scene = Scene(path, None)
        waiter = scene.waiter(adopts_failures=False)
        scene.file.write(record("leader", "failed"))
        assert not await waiter.look()

    @pytest.mark.parametrize("outcome", ["ready", "failed"])
    async def test_for_a_single_command(self, path: Path, outcome: str) -> None:
        """`upgrade +1` adopts neither a failure nor a success: it is not done by another."""
        scene = Scene(path, None)
        scene.at_target = True
        waiter = scene.waiter(job=Job(command=Command.UPGRADE, target="heads", policy=Policy()))
        scene.file.write(record("leader", outcome, command="upgrade"))
        assert not await waiter.look()


class TestHolder:
    """Who is named as the one that is waited for."""

    def test_while_it_works(self, path: Path) -> None:
        """The run in the record, until it has ended."""
        scene = Scene(path, None)
        assert scene.peers.holder() is None
        scene.file.write(record("leader"))
        holder = scene.peers.holder()
        assert holder is not None
        assert holder.run_id == "leader"
        scene.file.write(record("leader", "ready"))
        assert scene.peers.holder() is None

    def test_is_told_seldom(self, path: Path) -> None:
        """At first, for each new holder, and then after 1, 2, 4, … at most 30 seconds."""
        scene = Scene(path, record("one"))
        times = []
        for tenth in range(2000):
            before = len(scene.events)
            scene.peers.tell_waiting("file", tenth / 10, scene.peers.holder())
            times += [tenth / 10] * (len(scene.events) - before)
        assert times == [0, 1, 2, 4, 8, 16, 32, 62, 92, 122, 152, 182]
        scene.file.write(record("two"))
        scene.peers.tell_waiting("file", 200.0, scene.peers.holder())
        told = scene.events[-1]
        assert isinstance(told, LockWaiting)
        assert told.holder is not None
        assert (told.holder.run_id, told.waited_seconds) == ("two", 200.0)


class TestGarbage:
    """A record that cannot be read is no record."""

    def test_is_warned_of_once(self, path: Path) -> None:
        """However often it is looked at, and nobody is named."""
        path.write_text("{")
        scene = Scene(path, None)
        for _ in range(3):
            assert scene.peers.holder() is None
            assert scene.peers.news() is None
        assert len(scene.warnings) == 1
        assert str(path) in scene.warnings[0]

    def test_gives_way_to_the_next_record(self, path: Path) -> None:
        """What a leader writes over it counts."""
        path.write_text("{")
        scene = Scene(path, None)
        scene.file.write(record("leader", "ready"))
        news = scene.peers.news()
        assert news is not None
        assert news.holder.run_id == "leader"


class ServerLock(Lock):
    """A lock of a server, which only the server knows the holder of."""

    name = "server"
    quick = False

    def try_acquire(self) -> bool:
        return False

    def release(self) -> None:
        pass


class TestAnotherHost:
    """Who leads on another host is told by the server, and by no record."""

    pytestmark = pytest.mark.anyio

    async def test_is_named(self, path: Path) -> None:
        """To those who wait, who ask for it twice a second."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        scene.seen = record("remote").holder
        assert not await waiter.between_tries(ServerLock(), 0.0)
        [told] = scene.events
        assert isinstance(told, LockWaiting)
        assert (told.lock, told.holder) == ("server", scene.seen)

    async def test_is_followed_at_its_end(self, path: Path) -> None:
        """When another one leads, or nobody, the database is asked, and all leave together."""
        scene = Scene(path, None)
        waiter = scene.waiter()
        scene.at_target = True
        scene.seen = record("one").holder
        assert not await waiter.between_tries(ServerLock(), 0.0)
        assert not await waiter.between_tries(ServerLock(), 1.0)
        assert scene.probes == 0
        scene.seen = record("two").holder
        assert not await waiter.between_tries(ServerLock(), 1.2)  # not asked that often
        assert await waiter.between_tries(ServerLock(), 2.0)
        assert waiter.adopted().versions == ("r2",)
        assert scene.probes == 1

    async def test_whose_lock_cannot_even_be_tried(self, path: Path) -> None:
        """A server that has gone for a while is told of by what is the matter with it."""
        scene = Scene(path, None)
        lock = ServerLock()
        lock.trouble = "the server does not answer"
        assert not await scene.waiter().between_tries(lock, 0.0)
        [told] = scene.events
        assert isinstance(told, LockWaiting)
        assert told.reason == "the server does not answer"
