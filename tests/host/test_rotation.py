"""What a rotation leaves behind: whose the files are, and what is never rotated."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.host.directory import open_shared
from orchestrator.host.rotation import rotate
from orchestrator.journal.generations import older
from orchestrator.journal.writer import Journal, Origin
from tests.nobody import NOBODY, public_project, run_as_nobody
from tests.projects import Project

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
SERVICE, OTHER = 1234, 4321
FULL = b"{}\n" * 1000
SMALL = {"ORCHESTRATOR_JOURNAL_MAX_BYTES": "2000"}


def opened(path: Path) -> Journal:
    """The journal as a run opens it, and closed again."""
    origin = Origin(host="h", pid=1, database="d", release=None)
    journal = Journal(path, origin, opener=open_shared, max_bytes=2000, rotate=rotate)
    journal.close()
    return journal


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal that is too long, in a directory of its own."""
    path = tmp_path / "state" / "journal.jsonl"
    path.parent.mkdir()
    path.write_bytes(FULL)
    return path


class TestOwnerAndMode:
    """Of the older generation and of the new file: those that the journal had."""

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
    def test_mode(self, path: Path, mode: int) -> None:
        """Whatever the directory's is, and the umask: somebody may have had reasons."""
        path.chmod(mode)
        before = os.umask(0o027)
        try:
            assert opened(path).unrotated is None
        finally:
            os.umask(before)
        assert (path.read_bytes(), older(path).read_bytes()) == (b"", FULL)
        assert owner_and_mode(path)[2] == owner_and_mode(older(path))[2] == mode

    @AS_ROOT
    def test_by_root(self, path: Path) -> None:
        """A run as root does not lock the service's user out."""
        os.chown(path.parent, SERVICE, SERVICE)
        os.chown(path, SERVICE, OTHER)
        path.chmod(0o660)
        assert opened(path).unrotated is None
        assert owner_and_mode(path) == (SERVICE, OTHER, 0o660)
        assert owner_and_mode(older(path)) == (SERVICE, OTHER, 0o660)

    @AS_ROOT
    def test_by_a_user_who_is_not_its_owner(self) -> None:
        """Only the owner and root can make another like it.

        Whoever else goes on in it, says so, and leaves nothing behind.
        """
        with public_project() as project:
            project.chain(1)
            assert project.run("run").code == 0
            journal = project.state / "journal.jsonl"
            journal.write_bytes(FULL)
            project.state.chmod(0o777)
            journal.chmod(0o666)
            ended = run_as_nobody(project, "run", "--json", **SMALL)
            assert ended.code == 0, ended.stderr
            [warning] = ended.json["warnings"]
            assert "longer than 2000 bytes (`journal_max_bytes`)" in warning
            assert "could not be rotated: Operation not permitted" in warning
            assert not [
                name for name in os.listdir(project.state) if name.startswith("journal.jsonl.")
            ]
            assert [line["event"] for line in project.journal()[1000:]] == [
                "run_started",
                "warning",
                "state_observed",
                "database_ready",
            ]
            os.chown(journal, NOBODY, NOBODY)
            ended = run_as_nobody(project, "run", "--json", **SMALL)
            assert (ended.code, ended.json["warnings"]) == (0, [])
            assert (
                owner_and_mode(older(journal)) == owner_and_mode(journal) == (NOBODY, NOBODY, 0o666)
            )

    @AS_ROOT
    def test_in_a_directory_that_may_not_be_written(self) -> None:
        """Who may write the journal alone goes on in it."""
        with public_project() as project:
            project.chain(1)
            assert project.run("run").code == 0
            journal = project.state / "journal.jsonl"
            journal.write_bytes(FULL)
            os.chown(journal, NOBODY, NOBODY)
            elsewhere = {"ORCHESTRATOR_JOURNAL": str(journal)}
            ended = run_as_nobody(project, "run", "--json", **SMALL, **elsewhere)
            assert ended.code == 0, ended.stderr
            [warning] = ended.json["warnings"]
            assert "could not be rotated: Permission denied" in warning
            assert len(project.journal()) == 1000 + 4


class TestNotRotated:
    """Only a regular file is, in its own directory."""

    def test_a_link(self, path: Path) -> None:
        """It is not opened at all, and what it leads to stays as it is."""
        victim = path.rename(path.with_name("victim"))
        path.symlink_to(victim)
        with pytest.raises(Exception, match="symbolic links"):
            opened(path)
        assert sorted(os.listdir(path.parent)) == ["journal.jsonl", "victim"]

    def test_a_pipe(self, path: Path) -> None:
        """Nor a device: both have no size that counts."""
        path.unlink()
        os.mkfifo(path)
        asked = []
        origin = Origin(host="h", pid=1, database="d", release=None)
        for special in (path, Path("/dev/null")):
            Journal(
                special,
                origin,
                opener=open_shared,
                max_bytes=1,
                rotate=lambda *call: bool(asked.append(call)),
            ).close()
        assert asked == []
        assert os.listdir(path.parent) == [path.name]

    @pytest.mark.parametrize("name", ["journal.jsonl.1", ".journal.jsonl.rotating"])
    def test_a_link_in_the_place_of_what_is_made(self, path: Path, name: str) -> None:
        """It is replaced; what it leads to stays as it is."""
        victim = path.with_name("victim")
        victim.write_text("precious")
        (path.parent / name).symlink_to(victim)
        assert opened(path).unrotated is None
        assert victim.read_text() == "precious"
        assert (path.read_bytes(), older(path).read_bytes()) == (b"", FULL)
        assert not older(path).is_symlink()
        assert sorted(os.listdir(path.parent)) == ["journal.jsonl", "journal.jsonl.1", "victim"]

    @pytest.mark.parametrize("name", ["journal.jsonl.1", ".journal.jsonl.rotating"])
    def test_something_that_cannot_be_replaced(self, path: Path, name: str) -> None:
        """A directory: the journal is as it was, and the run says why."""
        (path.parent / name / "of somebody").mkdir(parents=True)
        journal = opened(path)
        assert journal.unrotated is not None
        assert "could not be rotated: Is a directory" in journal.unrotated
        assert path.read_bytes() == FULL
        assert set(os.listdir(path.parent)) == {"journal.jsonl", name}

    @pytest.mark.parametrize("name", ["open", "link", "rename"])
    def test_without_room(self, path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where nothing more can be made the journal is as it was, but for its last generation."""
        older(path).write_text("older")
        real = getattr(os, name)

        def full(*arguments: Any, **options: Any) -> Any:
            if ".journal.jsonl.rotating" in arguments or name == "link":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, full)
        journal = opened(path)
        monkeypatch.undo()
        assert journal.unrotated is not None
        assert "No space left on device" in journal.unrotated
        assert path.read_bytes() == FULL
        assert (
            {"journal.jsonl"} <= set(os.listdir(path.parent)) <= {"journal.jsonl", older(path).name}
        )
        assert opened(path).unrotated is None
        assert (path.read_bytes(), older(path).read_bytes()) == (b"", FULL)

    def test_who_forks_meanwhile(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A child that is forked at that instant, by another thread, keeps nobody from rotating."""
        children = []

        def fork_and_fail(*_: object) -> None:
            children.append(os.fork())
            if children[0] == 0:
                signal.pause()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fchown", fork_and_fail)
        try:
            assert opened(path).unrotated is not None
            monkeypatch.undo()
            assert opened(path).unrotated is None
            assert older(path).read_bytes() == FULL
        finally:
            os.kill(children[0], signal.SIGKILL)
            os.waitpid(children[0], 0)

    def test_where_flock_does_not_work(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without a lock nobody rotates."""

        def no_lock(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr("fcntl.flock", no_lock)
        journal = opened(path)
        assert journal.unrotated is not None
        assert "No locks available" in journal.unrotated
        assert os.listdir(path.parent) == [path.name]


@AS_ROOT
class TestLedAstray:
    """Root at work in a directory of a user who exchanges what is there, at the worst instant."""

    @pytest.fixture
    def victim(self, tmp_path: Path) -> Iterator[Path]:
        """A directory of root's own, in which nothing changes."""
        victim = tmp_path / "victim"
        victim.mkdir(0o700)
        for name in ("journal.jsonl", "journal.jsonl.1", ".journal.jsonl.rotating"):
            (victim / name).write_text(f"precious {name}")
        yield victim
        assert {file.name: file.read_text() for file in victim.iterdir()} == {
            name: f"precious {name}"
            for name in ("journal.jsonl", "journal.jsonl.1", ".journal.jsonl.rotating")
        }
        assert {owner_and_mode(file)[0] for file in victim.iterdir()} == {0}

    @pytest.mark.parametrize("call", ["flock", "stat", "unlink", "fchown", "link", "rename"])
    def test_the_directory(
        self, path: Path, victim: Path, call: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All is done in the directory in which the journal was found, or nothing is."""
        os.chown(path.parent, SERVICE, SERVICE)
        module = "fcntl" if call == "flock" else "os"
        real: Callable[..., Any] = getattr(__import__(module), call)

        def exchange(*arguments: Any, **options: Any) -> Any:
            monkeypatch.undo()
            path.parent.rename(path.parent.with_name("aside"))
            path.parent.symlink_to(victim)
            return real(*arguments, **options)

        monkeypatch.setattr(f"{module}.{call}", exchange)
        opened(path)
        aside = path.parent.with_name("aside")
        assert path.parent.is_symlink()
        assert FULL in [file.read_bytes() for file in aside.iterdir()]


def test_a_run_rotates_and_is_read(project: Project) -> None:
    """Three runs, the second of which finds the journal too long: `logs` shows all of them."""
    project.chain(1)
    assert project.run("run").code == 0
    bound = {
        "ORCHESTRATOR_JOURNAL_MAX_BYTES": str((project.state / "journal.jsonl").stat().st_size - 1)
    }
    assert project.run("run", **bound).code == 0
    assert project.run("run", **bound).code == 0
    assert sorted(file.name for file in project.state.glob("journal*")) == [
        "journal.jsonl",
        "journal.jsonl.1",
    ]
    assert [line["event"] for line in project.journal()].count("run_started") == 2
    document = project.run("logs", "runs", "--json").json
    assert [run["role"] for run in document["runs"]] == ["led", "found current", "found current"]
    journal = project.state / "journal.jsonl"
    assert document["journals"] == [str(older(journal)), str(journal)]
    leader = document["runs"][0]["run_id"]
    assert project.run("logs", "show", leader, "--json").json["run"] == document["runs"][0]
