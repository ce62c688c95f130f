"""What is remembered of the target, and when it must not be believed."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.decision.state import KnownTarget, ScriptLocations
from orchestrator.host.directory import open_shared
from orchestrator.host.heads import HeadsFile, resolve
from orchestrator.revisions.config import config_files
from tests.projects import Project
from tests.zygote import Zygote

KNOWN = KnownTarget(versions=("r2",), version_table="alembic_version", version_table_schema=None)


@pytest.fixture
def scripts(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project of two revisions, whose directory is the working directory."""
    project.chain(2)
    project.write("alembic.ini", "[alembic]\nscript_location = migrations\n")
    monkeypatch.chdir(project.path)
    return project


def heads_of(project: Project, *, key: tuple[str, ...] = ("key",)) -> HeadsFile:
    return HeadsFile(
        project.path / "heads.json", open_shared, key=key, config_files=config_files(None)
    )


def locations_of(**changes: Any) -> ScriptLocations:
    values = {"script_location": "migrations", "version_locations": (), "recursive": False}
    return ScriptLocations(**{**values, **changes})


def remember(project: Project, **changes: Any) -> HeadsFile:
    heads, locations = heads_of(project), locations_of(**changes)
    heads.store(KNOWN, locations, heads.fingerprint(locations))
    assert heads.load() == KNOWN
    return heads


def edit_and_keep_size_and_mtime(file: Path) -> None:
    status, text = file.stat(), file.read_text()
    file.write_text(text.replace("def upgrade", "def UPGRADE"))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a revision is added": lambda path: shutil.copy(
        path / "migrations/versions/r2.py", path / "migrations/versions/r3.py"
    ),
    "a revision is removed": lambda path: (path / "migrations/versions/r2.py").unlink(),
    "a revision is renamed": lambda path: (path / "migrations/versions/r2.py").rename(
        path / "migrations/versions/r2_b.py"
    ),
    "a revision is edited": lambda path: (path / "migrations/versions/r1.py").write_text("# new"),
    "a revision is touched": lambda path: os.utime(path / "migrations/versions/r1.py", (1, 1)),
    "a revision is edited, keeping size and mtime": lambda path: edit_and_keep_size_and_mtime(
        path / "migrations/versions/r1.py"
    ),
    "a revision is replaced by its copy": lambda path: shutil.copy2(
        shutil.copy2(path / "migrations/versions/r1.py", path / "copy"),
        path / "migrations/versions/r1.py",
    ),
    "env.py is edited": lambda path: (path / "migrations/env.py").write_text("# new"),
    "env.py is edited, keeping size and mtime": lambda path: os.utime(
        path / "migrations/env.py", ns=(1, (path / "migrations/env.py").stat().st_mtime_ns)
    ),
    "env.py is removed": lambda path: (path / "migrations/env.py").unlink(),
    "the config file is edited": lambda path: (path / "alembic.ini").write_text("[alembic]\n"),
    "the config file is removed": lambda path: (path / "alembic.ini").unlink(),
    "another config file appears": lambda path: (path / "pyproject.toml").write_text(""),
    "the versions are gone": lambda path: shutil.rmtree(path / "migrations/versions"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_change_of_what_the_target_comes_from_is_noticed(
    scripts: Project, change: Callable[[Path], Any]
) -> None:
    """Nothing is remembered any more once a file differs in name, size, mtime or ctime."""
    heads = remember(scripts)
    change(scripts.path)
    assert heads.load() is None


def test_what_has_nothing_to_do_with_the_target_is_not_noticed(scripts: Project) -> None:
    """Bytecode, other files beside the directory, and the file's own time change nothing."""
    heads = remember(scripts)
    (scripts.path / "migrations/versions/__pycache__").mkdir()
    (scripts.path / "migrations/versions/__pycache__/r1.cpython-311.pyc").write_bytes(b"x")
    (scripts.path / "README").write_text("x")
    os.utime(scripts.path / "heads.json", (1, 1))
    assert heads.load() == KNOWN


def test_bytecode_counts_where_it_is_a_script(scripts: Project) -> None:
    """In a sourceless project the files of __pycache__ are revisions."""
    heads = remember(scripts, sourceless=True)
    (scripts.path / "migrations/versions/__pycache__").mkdir()
    (scripts.path / "migrations/versions/__pycache__/r3.cpython-311.pyc").write_bytes(b"x")
    assert heads.load() is None


@pytest.mark.parametrize("recursive", [True, False])
def test_sub_directories_count_only_where_they_are_read(scripts: Project, recursive: bool) -> None:
    """A file deeper down is noticed if, and only if, the config reads directories recursively."""
    heads = remember(scripts, recursive=recursive)
    scripts.write("migrations/versions/deeper/r3.py", "")
    assert (heads.load() is None) is recursive


def test_several_version_locations_all_count(scripts: Project) -> None:
    """Each of the directories that the config names is read, and no other."""
    scripts.write("a/r1.py", "")
    scripts.write("b/r2.py", "")
    heads = remember(scripts, version_locations=("a", "b"))
    (scripts.path / "migrations/versions/r1.py").unlink()
    assert heads.load() == KNOWN
    scripts.write("b/r3.py", "")
    assert heads.load() is None


def test_a_link_that_leads_nowhere_is_told_by_its_name(scripts: Project) -> None:
    """A dangling link among the scripts is no error, and noticed when it leads somewhere."""
    (scripts.path / "migrations/versions/r3.py").symlink_to(scripts.path / "later.py")
    heads = remember(scripts)
    (scripts.path / "later.py").write_text("")
    assert heads.load() is None


def test_a_name_that_is_no_text_is_told(scripts: Project) -> None:
    """A file name that cannot be decoded does not disturb."""
    name = os.fsencode(scripts.path / "migrations/versions") + b"/r\xff.py"
    with open(name, "wb"):
        pass
    heads = remember(scripts)
    os.unlink(name)
    assert heads.load() is None


def test_another_version_of_alembic_remembers_nothing(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was found by one installation of Alembic is not believed by another."""
    heads = remember(scripts)
    scripts.write("newer/alembic/__init__.py", "__version__ = '99.0'\n")
    monkeypatch.syspath_prepend(scripts.path / "newer")
    monkeypatch.delitem(sys.modules, "alembic", raising=False)
    assert heads.load() is None


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"format": 4}',
        b"[" * 100_000,
        b'{"format": 4, "key": null, "locations": null, "fingerprint": null, "known": null}',
    ],
)
def test_a_damaged_file_is_ignored(scripts: Project, damage: bytes) -> None:
    """Whatever stands in the file, the worst that follows is the long way."""
    heads = remember(scripts)
    (scripts.path / "heads.json").write_bytes(damage)
    assert heads.load() is None


@pytest.mark.parametrize("entry", ["key", "fingerprint", "locations", "known", "format"])
def test_a_file_with_a_wrong_entry_is_ignored(scripts: Project, entry: str) -> None:
    """Each entry of the file is needed, and has to be of its kind."""
    heads = remember(scripts)
    values = json.loads((scripts.path / "heads.json").read_text())
    for wrong in (None, 7, [], {}, "x"):
        (scripts.path / "heads.json").write_text(json.dumps({**values, entry: wrong}))
        assert heads.load() is None
    del values[entry]
    (scripts.path / "heads.json").write_text(json.dumps(values))
    assert heads.load() is None


def test_a_link_in_the_place_of_the_file_is_not_followed(scripts: Project) -> None:
    """Somebody else's link neither gives a target nor has its file overwritten."""
    heads = remember(scripts)
    (scripts.path / "heads.json").rename(scripts.path / "elsewhere.json")
    (scripts.path / "heads.json").symlink_to(scripts.path / "elsewhere.json")
    assert heads.load() is None


def test_a_file_that_cannot_be_written_is_harmless(scripts: Project) -> None:
    """A run goes well where the target cannot be remembered; nothing is left lying about."""
    assert scripts.run("run").code == 0
    blocked = scripts.heads
    blocked.unlink()
    blocked.mkdir()
    done = scripts.run("run", "--json")
    assert (done.code, done.json["outcome"]) == (0, "ready")
    assert scripts.run("run").code == 0
    assert not list(scripts.state.glob("*.tmp"))


def test_other_settings_remember_for_themselves(scripts: Project) -> None:
    """A target found for one set of settings is not another's."""
    remember(scripts)
    assert heads_of(scripts, key=("other",)).load() is None


def test_another_working_directory_remembers_for_itself(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative locations mean other files in another directory."""
    (scripts.path / "deeper").mkdir()  # before: its name could be imported
    heads = remember(scripts)
    monkeypatch.chdir(scripts.path / "deeper")
    assert (
        HeadsFile(
            scripts.path / "heads.json", open_shared, key=("key",), config_files=config_files(None)
        ).load()
        is None
    )
    monkeypatch.chdir(scripts.path)
    assert heads.load() == KNOWN


def test_a_package_that_moved_is_another_release(
    tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`package:directory` is looked up anew: what one release remembered serves no other."""
    project.chain(2)
    for release in ("one", "two"):
        package = tmp_path / release / "bench_pkg_moved"
        shutil.copytree(project.path / "migrations", package / "migrations")
        (package / "__init__.py").touch()
    (tmp_path / "two/bench_pkg_moved/migrations/versions/r2.py").unlink()
    monkeypatch.syspath_prepend(tmp_path / "one")
    heads = heads_of(project)
    locations = locations_of(script_location="bench_pkg_moved:migrations")
    heads.store(KNOWN, locations, heads.fingerprint(locations))
    assert resolve("bench_pkg_moved:migrations") == str(tmp_path / "one/bench_pkg_moved/migrations")
    assert heads.load() == KNOWN
    monkeypatch.syspath_prepend(tmp_path / "two")
    assert heads.load() is None


def test_no_package_is_imported_to_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of `a.b.c:directory` neither a, b nor c."""
    package = tmp_path / "looked_up" / "within" / "inner"
    package.mkdir(parents=True)
    for directory in (package, *package.parents[:2]):
        (directory / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    assert resolve("looked_up:versions") == str(tmp_path / "looked_up" / "versions")
    assert resolve("looked_up.within.inner:a:b") == str(package / "a" / "b")
    assert resolve("tests.host:there") == str(Path(__file__).parent / "there")
    for absent in ("looked_up.absent:x", "looked_up.absent.inner:x", "json.decoder:x"):
        with pytest.raises(ImportError):
            resolve(absent)


def test_a_package_without_init_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the top of a location, and within other packages, of either kind."""
    package = tmp_path / "namespace_a" / "without" / "inner"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "bare").mkdir()
    monkeypatch.syspath_prepend(tmp_path)

    assert resolve("namespace_a:x") == str(tmp_path / "namespace_a" / "x")
    assert resolve("namespace_a.without:x") == str(package.parent / "x")
    assert resolve("namespace_a.without.inner:x") == str(package / "x")
    assert resolve("namespace_a.without.inner.bare:x") == str(package / "bare" / "x")


def test_a_package_that_is_gone_is_no_error(project: Project) -> None:
    """A location that cannot be resolved any more means the long way."""
    heads = heads_of(project)
    heads.store(KNOWN, locations_of(script_location="no_such_package:migrations"), "x")
    assert heads.load() is None


def test_two_releases_on_one_database_do_not_believe_each_other(
    tmp_path: Path, project: Project
) -> None:
    """A release whose scripts are behind, in a directory of its own, finds out for itself."""
    project.chain(2)
    newer = tmp_path / "newer"
    newer.mkdir()
    shutil.copytree(project.path / "migrations", newer / "migrations")
    shutil.copy(project.path / "models.py", newer)
    Project(newer).revision("r3", "r2")
    assert project.run("run").code == 0
    shared = {"ORCHESTRATOR_DATABASE_URL": project.url}
    done = Project(newer).run("run", "--json", **shared)
    assert done.json["versions"] == ["r3"]
    assert len(done.json["applied"]) == 1
    behind = project.run("run", "--json")
    assert behind.code == 4  # the older release does not know r3, and refuses
    assert behind.json["error"]["type"] == "StateRefused"


def rows_of(database: Path) -> list[str]:
    import sqlite3

    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT version_num FROM alembic_version ORDER BY 1").fetchall()
    connection.close()
    return [row[0] for row in found]


def several_heads(project: Project) -> str:
    project.revision("root", None)
    project.revision("left", "root")
    project.revision("right", "root")
    return "heads"


def depending(project: Project) -> str:
    project.revision("a1", None)
    project.revision("b1", None, depends_on="a1")
    return "heads"


def explicit(project: Project) -> str:
    project.chain(3)
    return "r2"


def labelled(project: Project) -> str:
    project.revision("root", None)
    project.revision("left", "root", labels="port")
    project.revision("right", "root", labels="starboard")
    return "port@head"


def merged(project: Project) -> str:
    several_heads(project)
    project.revision("merge", ("left", "right"))
    return "head"


@pytest.mark.parametrize("shape", [several_heads, depending, explicit, labelled, merged])
def test_the_remembered_rows_are_those_that_alembic_writes(
    tmp_path: Path, project: Project, zygote: Zygote, shape: Callable[[Project], str]
) -> None:
    """With several heads, dependencies, labels or an explicit target, the rows are Alembic's."""
    target = shape(project)
    project.write("alembic.ini", "[alembic]\nscript_location = migrations\n")
    stock = tmp_path / "stock.db"
    stock_url = f"sqlite:///{stock}"
    upgraded = zygote.alembic(project, "upgrade", target, ORCHESTRATOR_DATABASE_URL=stock_url)
    assert upgraded.code == 0, upgraded.stderr
    assert project.run("run", "--target", target).code == 0
    assert rows_of(project.database) == rows_of(stock)
    remembered = json.loads(project.heads.read_text())["known"]["versions"]
    assert remembered == rows_of(stock)
    again = project.run("run", "--target", target, "--json").json
    assert (again["outcome"], again["led"], again["versions"]) == ("ready", False, remembered)


def test_a_huge_file_is_not_read_into_memory(project: Project, tmp_path: Path) -> None:
    """Whatever somebody has put there costs a bounded read, and makes nobody ready."""
    path = tmp_path / "heads.json"
    with path.open("wb") as file:
        file.write(b'{"format": 4, "key": "')
        file.truncate(1 << 40)

    heads = HeadsFile(path, open_shared, key=("k",), config_files=())

    assert heads.load() is None


@pytest.mark.parametrize("change", ["set", "changed", "taken away"])
def test_the_environment_counts(
    scripts: Project, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A variable that `env.py` may go by, whether or not it was there before."""
    if change != "set":
        monkeypatch.setenv("TENANT", "one")
    remember(scripts)
    if change == "taken away":
        monkeypatch.delenv("TENANT")
    else:
        monkeypatch.setenv("TENANT", "two")
    assert heads_of(scripts).load() is None


def test_what_differs_from_process_to_process_does_not_count(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a shell's own variables nor a setting that no target depends on."""
    remember(scripts)
    for name in ("SHLVL", "HOSTNAME", "ORCHESTRATOR_LOG"):
        monkeypatch.setenv(name, "another")
    assert heads_of(scripts).load() == KNOWN


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_module_of_the_project_counts(
    scripts: Project, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """One that was imported, whoever imported it: it may have told `env.py` its tables."""
    module = scripts.write("settings_of_the_project.py", "VERSION_TABLE = 'one'\n")
    monkeypatch.syspath_prepend(scripts.path)
    __import__("settings_of_the_project")
    heads = remember(scripts)
    if change == "edited":
        module.write_text("VERSION_TABLE = 'two'\n")
    else:
        module.unlink()
    assert heads.load() is None
    del sys.modules["settings_of_the_project"]


def test_a_module_that_changed_during_the_run_leaves_nothing_remembered(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether it was imported before or after the change."""
    module = scripts.write("edited_meanwhile.py", "x = 1\n")
    monkeypatch.syspath_prepend(scripts.path)
    __import__("edited_meanwhile")
    heads = heads_of(scripts)
    module.write_text("x = 2\n")
    heads.store(KNOWN, locations_of(), heads.fingerprint(locations_of()))
    assert heads_of(scripts).load() is None
    del sys.modules["edited_meanwhile"]


NEW_NAMES: dict[str, Callable[[Path], Any]] = {
    "a module that was tried": lambda path: (path / "of_this_host.py").write_text("x = 1\n"),
    "an extension": lambda path: (path / "of_this_host.abi3.so").touch(),
    "a package that shadows a module": lambda path: shutil.copytree(path / "left", path / "told"),
    "a namespace that becomes a package": lambda path: (path / "left/__init__.py").touch(),
    "a module of a namespace": lambda path: (path / "left/of_this_host.py").touch(),
}


@pytest.mark.parametrize("change", NEW_NAMES.values(), ids=NEW_NAMES.keys())
def test_what_could_be_imported_counts(
    scripts: Project, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], Any]
) -> None:
    """A name that appears where an import looks: it may have failed before, or found another."""
    scripts.write("told.py", "VERSION_TABLE = 'one'\n")
    scripts.write("left/over.py", "")
    monkeypatch.syspath_prepend(scripts.path)
    __import__("told")
    __import__("left")
    heads = remember(scripts)
    change(scripts.path)
    assert heads.load() is None
    del sys.modules["told"], sys.modules["left"]


def test_what_cannot_be_imported_does_not_count(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database's journal comes and goes where the modules are, and so does bytecode."""
    monkeypatch.syspath_prepend(scripts.path)
    heads = remember(scripts)
    for name in (".app.db.orchestrator", "__pycache__", "some-1.0.egg-info"):
        (scripts.path / name).mkdir(exist_ok=True)
    for name in ("app.db", "app.db-journal", ".hidden.py", "notes.txt"):
        (scripts.path / name).touch()
    assert heads.load() == KNOWN


def test_a_module_that_appeared_during_the_run_leaves_nothing_remembered(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether an import of it has failed or not."""
    monkeypatch.syspath_prepend(scripts.path)
    heads = heads_of(scripts)
    scripts.write("of_this_host.py", "x = 1\n")
    heads.store(KNOWN, locations_of(), heads.fingerprint(locations_of()))
    assert heads_of(scripts).load() is None


def test_what_is_secret_does_not_count_and_is_not_kept(
    scripts: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a secret variable nor a URL's password: whoever reads a digest could try it out."""
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    monkeypatch.setenv("BROKER", "amqp://me:hunter2@host/x")
    heads = remember(scripts)
    monkeypatch.setenv("DB_PASSWORD", "other")
    monkeypatch.setenv("BROKER", "amqp://me:other@host/x")
    assert heads_of(scripts).load() == KNOWN
    monkeypatch.setenv("BROKER", "amqp://me:other@elsewhere/x")
    assert heads_of(scripts).load() is None
    heads.store(KNOWN, locations_of(), "x")
    assert "key" not in json.loads((scripts.path / "heads.json").read_text())["key"]


def test_variables_in_a_file_count(scripts: Project) -> None:
    """The `.env` of the working directory, which settings are often read from."""
    heads = remember(scripts)
    scripts.write(".env", "VERSION_TABLE=two\n")
    assert heads.load() is None


def test_a_forged_file_makes_nobody_ready(scripts: Project) -> None:
    """Versions that no revision file is named after are not believed."""
    heads = remember(scripts)
    values = json.loads((scripts.path / "heads.json").read_text())
    values["known"]["versions"] = ["forged"]
    (scripts.path / "heads.json").write_text(json.dumps(values))
    assert heads.load() is None


def test_what_was_left_behind_long_ago_is_forgotten(scripts: Project) -> None:
    """Each release's own directory of scripts leaves a file; old ones go."""
    old, young = scripts.path / "heads-old.json", scripts.path / "heads-young.json"
    for file, days in ((old, 91), (young, 89)):
        file.write_text("{}")
        moment = file.stat().st_mtime - days * 24 * 3600
        os.utime(file, (moment, moment))
    remember(scripts)
    assert (old.exists(), young.exists()) == (False, True)
