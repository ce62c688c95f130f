"""`run.json`: what is written is read back, and whatever else stands there harms nobody."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.host.record import Record, RecordFile
from orchestrator.results import ErrorReport, Holder
from tests.projects import Project
from tests.races.faults import GARBAGE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def file_at(path: Path) -> RecordFile:
    return RecordFile(path)


def record(**changes: object) -> Record:
    values: dict[str, object] = {
        "holder": Holder(
            run_id="a1", host="h", pid=7, command="run", since=datetime(2026, 1, 1, tzinfo=UTC)
        ),
        "target": "heads",
    }
    return Record(**{**values, **changes})


plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
holders = st.builds(
    Holder,
    run_id=plain,
    host=plain,
    pid=st.integers(0, 2**22),
    command=plain,
    since=st.datetimes(timezones=st.just(UTC)),
    release=st.none() | plain,
    task=st.none() | plain,
    revision=st.none() | plain,
)
errors = st.builds(ErrorReport, type=plain, message=plain, exit_code=st.integers(0, 255))
records = st.builds(
    Record,
    holder=holders,
    target=plain,
    settings=st.none() | plain,
    fingerprint=st.none() | plain,
    outcome=st.none() | st.sampled_from(["ready", "failed", "cancelled"]),
    error=st.none() | errors,
    scripts_failed=st.booleans(),
)


class TestFile:
    """Writing and reading."""

    @given(records)
    def test_round_trip(self, tmp_path_factory: pytest.TempPathFactory, written: Record) -> None:
        """Whatever a run tells of itself is read as it was written."""
        path = tmp_path_factory.getbasetemp() / f"run.{os.getpid()}.json"
        file_at(path).write(written)
        assert file_at(path).read() == written

    def test_of_an_older_release(self, path: Path) -> None:
        """One that does not tell its settings is read, and can be compared with nothing."""
        written = record(outcome="failed", settings="s", scripts_failed=True)
        file_at(path).write(written)
        values = json.loads(path.read_text())
        del values["settings"], values["scripts_failed"]
        path.write_text(json.dumps(values))
        assert file_at(path).read() == record(outcome="failed")

    def test_missing(self, path: Path) -> None:
        """No file is no record, and no error."""
        assert file_at(path).read() is None

    def test_what_has_not_changed_is_not_written_again(self, path: Path) -> None:
        """The file stays as it is, until there is something new to tell."""
        file = file_at(path)
        file.write(record())
        inode = path.stat().st_ino
        file.write(record())
        assert path.stat().st_ino == inode
        file.write(record(outcome="ready"))
        assert json.loads(path.read_text())["outcome"] == "ready"

    def test_nothing_is_left_beside_it(self, path: Path) -> None:
        """Neither by a write that succeeds nor by one that fails."""
        file_at(path).write(record())
        assert os.listdir(path.parent) == ["run.json"]
        path.unlink()
        path.mkdir()
        with pytest.raises(OSError, match="directory"):
            file_at(path).write(record())
        assert os.listdir(path.parent) == ["run.json"]

    def test_a_temporary_file_that_was_planted(self, path: Path, tmp_path: Path) -> None:
        """A link or a file of that name is replaced, and what it led to is not touched."""
        victim = tmp_path / "victim"
        temporary = path.with_name(f"run.json.{os.getpid()}.tmp")
        for plant in (
            lambda: temporary.symlink_to(victim),
            lambda: os.link(victim, temporary),
        ):
            victim.write_text("precious")
            plant()
            file_at(path).write(record())
            assert victim.read_text() == "precious"
            assert not path.is_symlink()
            assert stat.S_ISREG(path.lstat().st_mode)
            path.unlink()

    def test_one_that_is_planted_in_the_last_instant(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The temporary file is made anew, or not used at all."""
        victim = tmp_path / "victim"
        victim.write_text("precious")
        real: Callable[..., int] = os.open

        def plant_and_open(name: str, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            if flags & os.O_EXCL:
                os.link(victim, tmp_path / name)
            return real(name, flags, *mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", plant_and_open)
        with pytest.raises(FileExistsError):
            file_at(path).write(record())
        assert victim.read_text() == "precious"


def plant_directory(path: Path) -> None:
    path.mkdir()


def plant_link(path: Path) -> None:
    target = path.with_name("elsewhere.json")
    file_at(target).write(record(outcome="ready"))
    path.symlink_to(target)


def plant_dangling_link(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


def plant_pipe(path: Path) -> None:
    os.mkfifo(path)


def plant_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


PLANTS: list[Callable[[Path], None]] = [
    plant_directory,
    plant_link,
    plant_dangling_link,
    plant_pipe,
    plant_device,
]

LONG = b'{"version": 1, "x": "' + b"y" * 3_000_000 + b'"}'


class TestGarbage:
    """A record that cannot be read is a `ValueError`, at once, and nothing else."""

    @pytest.mark.parametrize("content", [*GARBAGE[:15], LONG], ids=lambda text: repr(text[:40]))
    def test_content(self, path: Path, content: bytes) -> None:
        """Truncated, empty, of another version, with values of other types."""
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"run\.json cannot be read as a record"):
            file_at(path).read()

    @given(st.binary(max_size=200))
    def test_any_bytes(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        """Whatever the bytes are."""
        path = tmp_path_factory.getbasetemp() / f"garbage.{os.getpid()}.json"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="cannot be read as a record"):
            file_at(path).read()

    @given(records, st.data())
    def test_any_wrong_value(
        self, tmp_path_factory: pytest.TempPathFactory, written: Record, data: st.DataObject
    ) -> None:
        """A record in which one value was exchanged is a sound record, or a `ValueError`."""
        path = tmp_path_factory.getbasetemp() / f"wrong.{os.getpid()}.json"
        file_at(path).write(written)
        values = json.loads(path.read_text())
        place = data.draw(st.sampled_from([part for part in (values, values["holder"]) if part]))
        key = data.draw(st.sampled_from(sorted(place)))
        place[key] = data.draw(
            st.sampled_from([None, True, 5, -1.5, "x", "\ud800", [], {}, [["x"]], {"since": 1}])
        )
        path.write_text(json.dumps(values))
        try:
            read = file_at(path).read()
        except ValueError:
            return
        assert read is not None
        hash((read.holder.run_id, read.outcome, read.fingerprint, read.target))
        json.dumps(str(read.holder), ensure_ascii=False).encode()

    @pytest.mark.parametrize("plant", PLANTS)
    def test_something_else_in_its_place(self, path: Path, plant: Callable[[Path], None]) -> None:
        """A directory, a link, a pipe: not followed, and not waited for."""
        plant(path)
        with pytest.raises(ValueError, match="cannot be read as a record"):
            file_at(path).read()

    @pytest.mark.parametrize("plant", PLANTS)
    def test_writing_over_it(self, path: Path, plant: Callable[[Path], None]) -> None:
        """Whatever it is gives way to the record, save a directory, which is an error."""
        plant(path)
        if plant is plant_directory:
            with pytest.raises(OSError, match="directory"):
                file_at(path).write(record())
            return
        file_at(path).write(record())
        assert file_at(path).read() == record()
        assert not path.with_name("nowhere").exists()


class TestRun:
    """A run is correct whatever stands in the record, and warns of it once."""

    @pytest.mark.anyio
    @pytest.mark.parametrize(
        "content", [b"", GARBAGE[6], GARBAGE[11], GARBAGE[15], GARBAGE[16]], ids=lambda c: c[:9]
    )
    async def test_content(
        self, project: Project, content: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It migrates, warns once where the record cannot be read, and leaves its own behind."""
        await self._run(project, lambda path: path.write_bytes(content), monkeypatch)

    @pytest.mark.anyio
    @pytest.mark.parametrize("plant", PLANTS)
    async def test_something_else_in_its_place(
        self,
        project: Project,
        plant: Callable[[Path], None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """The same; of a directory there are two: it can neither be read nor replaced."""
        await self._run(project, plant, monkeypatch)

    def test_the_command_tells_of_it(self, project: Project) -> None:
        """One warning on stderr, and the result on stdout as ever."""
        project.chain(1)
        project.state.mkdir()
        (project.state / "run.json").write_text("{")
        ended = project.run("run")
        assert ended.code == 0
        assert ended.stderr.count("cannot be read as a record") == 1
        assert "ready" in ended.stdout

    async def _run(
        self,
        project: Project,
        plant: Callable[[Path], object],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from orchestrator import Orchestrator, Settings

        monkeypatch.chdir(project.path)
        project.write(
            "migrations/env.py",
            "from orchestrator.environment import run_migrations\n\nrun_migrations()\n",
        )
        project.chain(2)
        project.state.mkdir()
        path = project.state / "run.json"
        plant(path)
        try:
            file_at(path).read()
            warnings = 0
        except ValueError:
            warnings = 2 if path.is_dir() else 1
        settings = Settings(database_url=project.url, script_location="migrations")

        report = await Orchestrator(settings).run()

        assert (report.outcome, report.versions) == ("ready", ("r2",))
        assert len(report.warnings) == warnings
        if not path.is_dir():
            found = file_at(path).read()
            assert found is not None
            assert (found.holder.run_id, found.outcome) == (report.run_id, "ready")
