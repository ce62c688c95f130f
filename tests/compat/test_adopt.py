"""`unversioned = "adopt"`: databases that `create_all` made and nobody stamped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine

from tests.compat.projects import ARTISTS, ENV_PY, Existing, assert_failed, assert_ready, existing
from tests.projects import Finished

Run = Callable[..., Finished]

MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
labels = sa.Table(
    "labels",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, index=True),
    sa.Column("city", sa.String(50)),
    sa.Column("size", sa.Integer, server_default="1"),
    sa.UniqueConstraint("city", name="uq_city"),
)
artists = sa.Table(
    "artists",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("label_id", sa.ForeignKey("labels.id", name="fk_label")),
)
"""
ADOPT = ("run", "--json", "--config", "adopt.toml")


def adopting(path: Path, env: str = ENV_PY, models: str = MODELS) -> Existing:
    project = existing(path, env=env, models=models)
    project.write("adopt.toml", 'unversioned = "adopt"')
    project.revision("r1", None, ARTISTS)
    return project


def create_all(project: Existing, models: str = MODELS) -> None:
    namespace: dict[str, object] = {}
    exec(models, namespace)
    engine = create_engine(project.url)
    namespace["metadata"].create_all(engine)  # type: ignore[attr-defined] # sa.MetaData
    engine.dispose()


def execute(project: Existing, *statements: str) -> None:
    engine = create_engine(project.url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


def test_equal_is_stamped(tmp_path: Path) -> None:
    """The rows are kept, no revision runs, and the next revision is applied as usual."""
    project = adopting(tmp_path)
    create_all(project)
    execute(project, "INSERT INTO labels (name) VALUES ('kept')")

    report = assert_ready(project.run(*ADOPT), "r1")

    assert [task["task"] for task in report["tasks"]] == ["stamp"]
    assert report["applied"] == []
    assert project.rows("SELECT name FROM labels") == [("kept",)]
    project.revision("r2", "r1")
    assert_ready(project.run(*ADOPT), "r2")
    assert project.tables() == ["alembic_version", "artists", "labels", "t_r2"]


def test_refused_by_default(tmp_path: Path, run: Run) -> None:
    """Without the setting nothing is stamped, and the refusal names it."""
    project = adopting(tmp_path)
    create_all(project)

    assert_failed(run(project, "run", "--json"), "StateRefused", '`unversioned = "adopt"`')
    assert project.tables() == ["artists", "labels"]


def test_different_is_refused_with_the_list(tmp_path: Path) -> None:
    """Each difference is one line in plain words, and nothing is touched."""
    project = adopting(tmp_path)
    execute(
        project,
        "CREATE TABLE labels "
        "(id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(20), extra INT, size TEXT)",
        "CREATE INDEX ix_extra ON labels (extra)",
        "CREATE TABLE legacy (id INTEGER PRIMARY KEY)",
    )
    before = project.dump()

    message = assert_failed(project.run(*ADOPT), "StateRefused")

    lines = [line.removeprefix("  - ") for line in message.splitlines() if line.startswith("  - ")]
    assert sorted(lines) == [
        "column labels.city is in the models, not in the database",
        "column labels.extra is in the database, not in the models",
        "column labels.name: NULL in the database, NOT NULL in the models",
        "column labels.name: type VARCHAR(20) in the database, VARCHAR(100) in the models",
        "column labels.size: type TEXT in the database, INTEGER in the models",
        "index ix_extra on labels (extra) is in the database, not in the models",
        "index ix_labels_name on labels (name) is in the models, not in the database",
        "table artists is in the models, not in the database",
        "table legacy is in the database, not in the models",
        "unique constraint uq_city on labels (city) is in the models, not in the database",
    ]
    assert project.dump() == before


def test_foreign_keys_and_defaults(tmp_path: Path, run: Run) -> None:
    """A foreign key that is missing, and a default where the environment compares them."""
    env = ENV_PY.replace("=metadata)", "=metadata, compare_server_default=True)")
    project = adopting(tmp_path, env)
    create_all(project, MODELS.replace('sa.ForeignKey("labels.id", name="fk_label")', "sa.Integer"))

    message = assert_failed(run(project, *ADOPT), "StateRefused")
    assert (
        "foreign key fk_label on artists (label_id) to labels (id) is in the models, not in the "
        "database"
    ) in message

    other = adopting(tmp_path / "other", env)
    create_all(other, MODELS.replace('server_default="1"', 'server_default="2"'))
    message = assert_failed(run(other, *ADOPT), "StateRefused")
    assert "column labels.size: default '2' in the database, 1 in the models" in message


def test_what_env_py_leaves_out_is_not_compared(tmp_path: Path, run: Run) -> None:
    """`include_object` and `include_name` hold for the comparison, too."""
    for number, hook in enumerate(
        (
            "include_object=lambda object, name, type_, reflected, other: name != 'legacy'",
            "include_name=lambda name, type_, parents: name != 'legacy'",
        )
    ):
        env = ENV_PY.replace("=metadata)", f"=metadata, {hook})")
        project = adopting(tmp_path / str(number), env)
        create_all(project)
        execute(project, "CREATE TABLE legacy (id INTEGER PRIMARY KEY)")

        assert_ready(run(project, *ADOPT), "r1")
