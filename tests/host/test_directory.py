"""The state directory: whose it is, what is refused, and links that are not followed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from orchestrator.errors import ConfigurationError
from orchestrator.host.directory import StateDirectory, open_shared, replace_shared
from tests.projects import Finished, Project

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
SERVICE = 1234
OTHER = 4321


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A SQLite file in a directory of its own."""
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "app.db"


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that other users can reach, as those of pytest cannot be."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o755)
        yield Path(path)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def user(uid: int) -> Iterator[None]:
    """Another user's rights, in this process."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def owner_and_mode(path: Path) -> tuple[int, int, int]:
    status = path.lstat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def make_all(directory: StateDirectory) -> list[Path]:
    """The directory with all of its files; returns the files."""
    directory.prepare()
    files = [directory.lock, directory.record, directory.heads("x"), directory.journal]
    for file in files:
        os.close(open_shared(file, os.O_RDWR | os.O_CREAT))
    return files


class TestPlace:
    """Where it is."""

    def test_beside_the_file(self, database: Path) -> None:
        """It is hidden, and named after the file."""
        assert StateDirectory.beside(database).path == database.parent / ".app.db.orchestrator"

    def test_of_a_link_to_the_file(self, database: Path, tmp_path: Path) -> None:
        """Beside the real file: whoever opens the database by another name shares it."""
        link = tmp_path / "link.db"
        link.symlink_to(database)
        assert StateDirectory.beside(link) == StateDirectory.beside(database)

    def test_missing_directories_are_made(self, tmp_path: Path) -> None:
        """Those above it, too."""
        directory = StateDirectory(tmp_path / "a" / "b" / "state")
        directory.prepare()
        directory.prepare()
        assert directory.path.is_dir()


class TestOwnerAndMode:
    """As the directory it stands in, whatever the umask of the process."""

    @pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
    @pytest.mark.parametrize("mode", [0o700, 0o755, 0o775, 0o2770])
    def test_mode(self, database: Path, mode: int, mask: int) -> None:
        """Who may write the directory may write all that is in it."""
        database.parent.chmod(mode)
        with umask(mask):
            files = make_all(StateDirectory.beside(database))
        assert owner_and_mode(StateDirectory.beside(database).path)[2] == mode
        assert {owner_and_mode(file)[2] for file in files} == {mode & 0o666}

    @AS_ROOT
    def test_a_run_as_root_does_not_lock_the_service_out(self, database: Path) -> None:
        """What root makes in the service's directory belongs to the service."""
        os.chown(database.parent, SERVICE, SERVICE)
        database.parent.chmod(0o750)
        directory = StateDirectory.beside(database)
        files = make_all(directory)
        assert owner_and_mode(directory.path) == (SERVICE, SERVICE, 0o750)
        assert {owner_and_mode(file) for file in files} == {(SERVICE, SERVICE, 0o640)}

    @AS_ROOT
    def test_a_whole_run_as_root(self, project: Project) -> None:
        """The same for what a run leaves behind, all of it."""
        project.chain(1)
        os.chown(project.path, SERVICE, SERVICE)
        assert project.run("run").code == 0
        left = [project.state, *project.state.iterdir()]
        [heads] = project.state.glob("heads-*.json")
        assert {file.name for file in left[1:]} == {
            "lock",
            "run.json",
            heads.name,
            "journal.jsonl",
        }
        assert {owner_and_mode(file)[:2] for file in left} == {(SERVICE, SERVICE)}

    def test_a_file_that_exists_is_left_as_it_is(self, database: Path) -> None:
        """Somebody may have had reasons."""
        directory = StateDirectory.beside(database)
        directory.prepare()
        directory.lock.touch()
        directory.lock.chmod(0o600)
        make_all(directory)
        assert owner_and_mode(directory.lock)[2] == 0o600


@AS_ROOT
class TestLedAstray:
    """Root at work in a directory of a user who exchanges what was made, at the worst instant."""

    @pytest.fixture
    def state(self, database: Path) -> StateDirectory:
        os.chown(database.parent, SERVICE, SERVICE)
        database.parent.chmod(0o777)
        return StateDirectory.beside(database)

    @pytest.fixture
    def victim(self, tmp_path: Path) -> Path:
        """A directory of root's own, with a file in it."""
        victim = tmp_path / "victim"
        victim.mkdir(0o700)
        (victim / "run.json").write_text("precious")
        return victim

    @pytest.fixture(autouse=True)
    def _untouched(self, state: StateDirectory, victim: Path) -> Iterator[None]:
        """Whatever is tried, the victim is as it was."""
        yield
        for path, mode in ((victim, 0o700), (victim / "run.json", 0o644)):
            assert owner_and_mode(path.resolve()) == (0, 0, mode)
        assert os.listdir(victim) == ["run.json"]
        assert (victim / "run.json").read_text() == "precious"

    @staticmethod
    def exchange(path: Path, victim: Path) -> None:
        path.rename(path.with_name("aside"))
        path.symlink_to(victim)

    def test_the_directory_just_made(
        self, state: StateDirectory, victim: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a link in its place names keeps its owner and mode."""
        real: Callable[..., None] = os.mkdir

        def mkdir(path: str | Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            real(path, mode, dir_fd=dir_fd)
            self.exchange(state.path.parent / os.path.basename(path), victim)

        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            state.prepare()

    def test_the_directory_just_made_for_one_of_roots_own(
        self, state: StateDirectory, victim: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nor is another directory given away, though it is a directory and root's own."""
        real: Callable[..., None] = os.mkdir
        own = victim.rename(state.path.parent / "own")
        victim.symlink_to(own)

        def mkdir(path: str | Path, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
            real(path, mode, dir_fd=dir_fd)
            made = state.path.parent / os.path.basename(path)
            made.rename(made.with_name("aside"))
            own.rename(made)
            victim.unlink()
            victim.symlink_to(made)

        monkeypatch.setattr(os, "mkdir", mkdir)
        with pytest.raises(ConfigurationError, match="cannot be used"):
            state.prepare()

    def test_the_directory_in_which_a_file_is_made(
        self, state: StateDirectory, victim: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file has its owner from the directory that it is made in, and no other."""
        state.prepare()
        real: Callable[..., int] = os.open

        def exchange_and_open(path: str, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            if flags & os.O_EXCL:
                self.exchange(state.path, victim)
            return real(path, flags, *mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", exchange_and_open)
        os.close(open_shared(state.journal, os.O_RDWR | os.O_CREAT))
        made = state.path.with_name("aside") / state.journal.name
        assert owner_and_mode(made) == (SERVICE, SERVICE, 0o666)

    def test_the_directory_in_which_a_file_is_replaced(
        self, state: StateDirectory, victim: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The file that takes its place is in the directory in which it was written."""
        state.prepare()
        real: Callable[..., None] = os.replace

        def exchange_and_replace(source: str, target: str, **options: int) -> None:
            self.exchange(state.path, victim)
            real(source, target, **options)

        monkeypatch.setattr(os, "replace", exchange_and_replace)
        replace_shared(state.record, "new")
        assert (state.path.with_name("aside") / "run.json").read_text() == "new"

    @pytest.mark.parametrize("prepared", [True, False])
    def test_a_link_that_was_planted(
        self, state: StateDirectory, victim: Path, prepared: bool
    ) -> None:
        """Root writes nothing where the link leads, whenever it was planted."""
        if prepared:
            state.prepare()
            self.exchange(state.path, victim)
        else:
            state.path.symlink_to(victim)
        with pytest.raises(ConfigurationError, match="symbolic link, in a directory of another"):
            state.prepare()
        for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
            with pytest.raises(OSError, match=r"[Nn]ot a directory"):
                open_shared(state.record, flags)
        with pytest.raises(OSError, match=r"[Nn]ot a directory"):
            replace_shared(state.record, "new")

    def test_a_link_in_roots_own_directory(self, tmp_path: Path) -> None:
        """Is root's own, and is followed."""
        (tmp_path / "elsewhere").mkdir()
        state = StateDirectory(tmp_path / "state")
        state.path.symlink_to("elsewhere")
        files = make_all(state)
        assert {file.name for file in files} == set(os.listdir(tmp_path / "elsewhere"))


class TestMadeAtOnce:
    """Several that make the directory at the same instant."""

    def test_is_made_by_one(self, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever is later takes what is there, and leaves nothing beside it."""
        state = StateDirectory.beside(database)
        real: Callable[..., None] = os.rename

        def rename(source: str, target: str, **options: int) -> None:
            monkeypatch.setattr(os, "rename", real)
            state.prepare()  # of the other, which is quicker
            real(source, target, **options)

        monkeypatch.setattr(os, "rename", rename)
        state.prepare()
        assert os.listdir(database.parent) == [state.path.name]
        assert os.listdir(state.path) == ["lock"]

    def test_without_room(self, database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A directory that cannot be made whole is not left behind."""

        def rename(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "rename", rename)
        with pytest.raises(ConfigurationError, match="No space left"):
            StateDirectory.beside(database).prepare()
        assert os.listdir(database.parent) == []


class TestSharedTemporaryDirectory:
    """Where all can write, it is private, and somebody else's is refused."""

    @pytest.fixture
    def shared(self, tmp_path: Path) -> Path:
        path = tmp_path / "shared"
        path.mkdir()
        path.chmod(0o1777)
        return path

    def test_is_private(self, shared: Path) -> None:
        """Directory and files are their maker's alone."""
        directory = StateDirectory(shared / "state")
        make_all(directory)
        assert owner_and_mode(directory.path) == (os.geteuid(), os.getegid(), 0o700)

    @AS_ROOT
    def test_somebody_elses_is_refused(self, public: Path) -> None:
        """Before a file in it is touched; also by root."""
        public.chmod(0o1777)
        directory = StateDirectory(public / "state")
        directory.path.mkdir()
        os.chown(directory.path, OTHER, OTHER)
        with pytest.raises(ConfigurationError, match="belongs to another user"):
            directory.prepare()
        directory.path.chmod(0o777)
        with user(SERVICE), pytest.raises(ConfigurationError, match="belongs to another user"):
            directory.prepare()
        assert list(directory.path.iterdir()) == []

    def test_a_link_is_refused(self, shared: Path, tmp_path: Path) -> None:
        """Even one to a directory of our own: whoever planted it chose where we write."""
        (tmp_path / "private").mkdir()
        (shared / "state").symlink_to(tmp_path / "private")
        with pytest.raises(ConfigurationError, match="symbolic link"):
            StateDirectory(shared / "state").prepare()
        assert list((tmp_path / "private").iterdir()) == []


class TestUnusable:
    """A clear error, and nothing is changed."""

    def test_a_file_has_its_name(self, database: Path) -> None:
        """It names the directory and the setting."""
        directory = StateDirectory.beside(database)
        directory.path.touch()
        with pytest.raises(ConfigurationError, match="not a directory") as caught:
            directory.prepare()
        assert str(directory.path) in str(caught.value)
        assert caught.value.setting == "state_dir"

    def test_a_directory_above_is_a_file(self, tmp_path: Path) -> None:
        """The reason is the operating system's."""
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match=r"exists|directory"):
            StateDirectory(tmp_path / "file" / "state").prepare()

    @AS_ROOT
    @pytest.mark.parametrize("exists", [True, False])
    def test_not_ours_to_write(self, public: Path, exists: bool) -> None:
        """A user who may not write there is told so."""
        directory = StateDirectory.beside(public / "app.db")
        if exists:
            directory.prepare()
        with user(SERVICE), pytest.raises(ConfigurationError, match="Permission denied"):
            directory.prepare()

    @AS_ROOT
    def test_a_read_only_disk(self, project: Project) -> None:
        """Exit code 2 before anything is migrated."""
        project.chain(1)
        with mounted(project.path / "disk", "ro"):
            url = f"sqlite:///{project.path}/disk/app.db"
            ended = project.run("run", "--json", ORCHESTRATOR_DATABASE_URL=url)
            assert os.listdir(project.path / "disk") == []
        assert_clear(ended, "Read-only file system")


@contextmanager
def mounted(path: Path, options: str) -> Iterator[None]:
    """A small disk of its own, where one can be mounted."""
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "none", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def assert_clear(ended: Finished, reason: str) -> None:
    """An error of the configuration that says why, and that nothing was changed."""
    assert ended.code == 2, ended.stderr
    error = ended.json["error"]
    assert error["type"] == "ConfigurationError"
    assert reason in error["message"]
    assert "othing was changed" in error["message"]
    assert "Traceback" not in ended.stderr


class TestLinks:
    """A symbolic link in the place of a file is not followed."""

    def test_by_the_opener(self, tmp_path: Path) -> None:
        """Neither to a file that exists nor to one that would be made."""
        victim, link = tmp_path / "victim", tmp_path / "link"
        link.symlink_to(victim)
        for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL):
            with pytest.raises(OSError, match=r"symbolic links|exists"):
                open_shared(link, flags)
        assert not victim.exists()
        victim.write_text("precious")
        for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
            with pytest.raises(OSError, match="symbolic links"):
                open_shared(link, flags)

    @pytest.mark.parametrize(
        ("name", "works"),
        [("lock", False), ("journal.jsonl", False), ("run.json", True), ("heads", True)],
    )
    def test_in_a_run(self, project: Project, name: str, works: bool) -> None:
        """Without lock or journal nothing is migrated; the other two are replaced."""
        project.chain(1)
        if name == "heads":
            assert project.run("run").code == 0
            name = project.heads.name
            project.heads.unlink()
            project.database.unlink()
        project.state.mkdir(exist_ok=True)
        victim = project.write("victim", "precious\n")
        (project.state / name).symlink_to(victim)
        ended = project.run("run", "--json")
        assert victim.read_text() == "precious\n"
        if works:
            assert ended.code == 0, ended.stderr
            assert not (project.state / name).is_symlink()
        else:
            assert_clear(ended, "symbolic links")
            assert not project.database.exists()


class TestOpener:
    """How files are opened."""

    def test_never_into_a_child(self, tmp_path: Path) -> None:
        """A program that is started does not get them."""
        descriptor = open_shared(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        assert not os.get_inheritable(descriptor)
        os.close(descriptor)

    def test_one_that_is_made_in_between(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two that make the same file at once open the same file."""
        path = tmp_path / "file"
        real: Callable[..., int] = os.open

        def open_late(name: str, flags: int, *mode: int, dir_fd: int | None = None) -> int:
            if flags & os.O_EXCL and not path.exists():
                path.write_text("of the other")
            return real(name, flags, *mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", open_late)
        descriptor = open_shared(path, os.O_RDWR | os.O_CREAT)
        assert os.read(descriptor, 100) == b"of the other"
        os.close(descriptor)
