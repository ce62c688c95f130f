"""Histories of every shape: branches, labels, merges, dependencies, relative targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.compat.projects import Existing, assert_failed, assert_ready, existing
from tests.projects import Finished
from tests.zygote import Zygote

Run = Callable[..., Finished]


def two_branches(path: Path) -> Existing:
    project = existing(path)
    project.revision("a1", None, labels="shop")
    project.revision("a2", "a1")
    project.revision("b1", None, labels="blog", depends_on="a1")
    project.revision("b2", "b1")
    return project


def test_several_heads(tmp_path: Path) -> None:
    """All branches are migrated, those first that others depend on."""
    project = two_branches(tmp_path)

    report = assert_ready(project.run("run", "--json"), "a2", "b2")

    order = [one["revision"] for one in report["applied"]]
    assert sorted(order) == ["a1", "a2", "b1", "b2"]
    assert order.index("a1") < order.index("b1")
    assert sorted(project.versions()) == ["a2", "b2"]
    assert_ready(project.run("run", "--json"), "a2", "b2", led=False)


def test_several_heads_by_creation(tmp_path: Path, run: Run) -> None:
    """A database that is made from the metadata is stamped with every head."""
    project = two_branches(tmp_path)

    assert_ready(run(project, "run", "--bootstrap", "create", "--json"), "a2", "b2")
    assert project.tables() == ["alembic_version", "artists"]


@pytest.mark.parametrize(
    "target",
    ["shop@head", "shop", "blog@head", "b1", "blog@head-1", "a1+1", "shop@+1", "heads", "a"],
)
def test_targets(tmp_path: Path, run: Run, zygote: Zygote, target: str) -> None:
    """`upgrade` takes every identifier, and goes where `alembic upgrade` goes."""
    project, stock = two_branches(tmp_path / "ours"), two_branches(tmp_path / "stock")
    upgraded = zygote.alembic(stock, "upgrade", target)

    ended = run(project, "upgrade", target, "--json")

    if target == "a":  # the beginning of two ids
        assert upgraded.code != 0, upgraded.stdout
        assert ended.code == 2
        assert project.tables() == []
    else:
        assert (upgraded.code, ended.code) == (0, 0), upgraded.stderr + ended.stderr
        assert project.versions() == stock.versions()
        assert project.tables() == stock.tables()


def test_relative_targets(tmp_path: Path, run: Run) -> None:
    """`+2`, `head-1` and `-1` count from where the database is, or from the head."""
    project = existing(tmp_path)
    project.chain(5)

    for command, target, expected in (
        ("upgrade", "+2", "r2"),
        ("upgrade", "head-1", "r4"),
        ("downgrade", "-1", "r3"),
        ("upgrade", "heads", "r5"),
    ):
        ended = run(project, command, target, "--json")
        assert ended.code == 0, ended.stderr
        assert project.versions() == [expected]


@pytest.mark.parametrize("target", ["r2+1", "r1-1", "r1-3"])
def test_beyond_the_end_of_a_history(tmp_path: Path, target: str) -> None:
    """There is no such revision: an error, and not a database that is said to be at its target."""
    project = existing(tmp_path)
    project.chain(2)

    assert_failed(project.run("upgrade", target, "--json"), "ConfigurationError", repr(target))
    assert project.run("upgrade", "r1", "--json").code == 0
    assert_failed(project.run("upgrade", target, "--json"), "ConfigurationError", repr(target))
    assert project.versions() == ["r1"]


def test_back_from_several_heads(tmp_path: Path, zygote: Zygote) -> None:
    """`-1` takes back what the plain command would: the row that stands first, not by its name."""
    projects = [existing(tmp_path / name) for name in ("ours", "stock")]
    for project in projects:
        project.revision("r1", None)
        for head in ("z2", "a2"):
            project.revision(head, "r1")
            assert zygote.alembic(project, "upgrade", head).code == 0
    ours, stock = projects

    ended, plain = ours.run("downgrade", "-1", "--json"), zygote.alembic(stock, "downgrade", "-1")

    assert (ended.code, plain.code) == (0, 0), ended.stderr + plain.stderr
    assert ours.versions() == stock.versions() == ["a2"]
    assert ours.tables() == stock.tables()


def test_merges(tmp_path: Path, run: Run) -> None:
    """A merge revision makes one head of two, from any of the rows that it merges."""
    project = existing(tmp_path)
    project.revision("a1", None)
    project.revision("b1", "a1")
    project.revision("c1", "a1")
    assert_ready(run(project, "run", "--json"), "b1", "c1")
    project.revision("m1", ("b1", "c1"), "pass", "pass")

    assert_ready(run(project, "run", "--json"), "m1")
    assert project.versions() == ["m1"]
    assert run(project, "downgrade", "a1", "--json").code == 0
    assert project.versions() == ["a1"]


def test_head_is_one(tmp_path: Path, run: Run) -> None:
    """`target = "head"` with several heads is refused, and names them; nothing is touched."""
    project = two_branches(tmp_path)

    assert_failed(run(project, "run", "--target", "head", "--json"), "ConfigurationError", "a2, b2")
    assert project.tables() == []


@pytest.mark.parametrize(
    "heading", ['revision = "base"', 'revision = "r2"\ndown_revision = 5'], ids=["base", "parent"]
)
def test_a_heading_that_alembic_stumbles_over_names_its_file(tmp_path: Path, heading: str) -> None:
    """Also where the error arises outside of the file: no file of this library is the script."""
    project = existing(tmp_path)
    project.revision("r1", None)
    file = project.write(
        "migrations/versions/wrong.py",
        f"down_revision = None\n{heading}\ndef upgrade():\n    pass\n",
    )

    message = assert_failed(project.run("run", "--json"), "ConfigurationError", str(file))

    assert "orchestrator/revisions" not in message
