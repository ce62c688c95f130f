"""How the entries of Alembic's comparison are told."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect

from orchestrator.results import Difference
from orchestrator.revisions.differences import in_words

METADATA = sa.MetaData()
LABELS = sa.Table("labels", METADATA, sa.Column("id", sa.Integer, primary_key=True), schema="s")
ARTISTS = sa.Table(
    "artists",
    METADATA,
    sa.Column("name", sa.Text),
    sa.Column("label", sa.ForeignKey("s.labels.id", name="fk", ondelete="CASCADE")),
)


class Odd(sa.types.UserDefinedType[Any]):
    """A type that no database has a word for."""


def told(*entries: Any, dialect: Dialect | None = None, **more: Any) -> list[Difference]:
    return list(in_words(entries, dialect or sqlite.dialect(), there="the database", **more))


def changed(kind: str, found: Any, declared: Any) -> list[Any]:
    """As Alembic has changes of one column: together in a list."""
    return [(kind, None, "artists", "name", {}, found, declared)]


@pytest.mark.parametrize(
    ("entry", "identifier"),
    [
        (("add_table", LABELS), "table s.labels: missing"),
        (("remove_column", "s", "labels", LABELS.c.id), "column s.labels.id: extra"),
        (
            ("add_index", sa.Index("ix", ARTISTS.c.name, sa.func.lower(ARTISTS.c.name))),
            "index ix on artists (name, lower(artists.name)): missing",
        ),
        (
            ("remove_index", sa.Index("ux", LABELS.c.id, unique=True)),
            "unique index ux on s.labels (id): extra",
        ),
        (
            ("add_fk", next(iter(ARTISTS.foreign_key_constraints))),
            "foreign key fk on artists (label) to s.labels (id) ON DELETE CASCADE: missing",
        ),
        (changed("modify_nullable", True, False), "column artists.name: NULL, not NOT NULL"),
        (
            changed("modify_default", None, sa.DefaultClause(sa.text("'a\n b'"))),
            "column artists.name: default none, not 'a b'",
        ),
        (
            changed("modify_default", sa.Computed("1 + 1"), sa.DefaultClause("x")),
            "column artists.name: default 1 + 1, not x",
        ),
        (changed("modify_comment", None, "x"), "column artists.name: comment none, not 'x'"),
        (("remove_table_comment", LABELS), "table s.labels: comment one, not none"),
        (changed("modify_type", sa.Text(), Odd()), "column artists.name: type TEXT, not Odd()"),
        (("add_view", object()), "add_view: <object object>"),
    ],
)
def test_each_kind(entry: Any, identifier: str) -> None:
    """One line that is the same in every process, and says what stands on either side."""
    [difference] = told(entry)

    assert difference.identifier == identifier
    assert "\n" not in difference.words


def test_a_type_is_told_as_the_database_calls_it() -> None:
    """And as the models do where it has one word for both."""
    types = sa.DateTime(), sa.DateTime(timezone=True)
    entry = changed("modify_type", *types)

    [by_database] = told(entry, dialect=postgresql.dialect())
    [by_models] = told(entry)

    assert "type TIMESTAMP WITHOUT TIME ZONE in the database, TIMESTAMP WITH" in by_database.words
    assert "type DateTime() in the database, DateTime(timezone=True) in" in by_models.words


def test_a_table_on_one_side_is_told_once() -> None:
    """Without its indexes; those of another table are told."""
    index = sa.Index("ix_a", ARTISTS.c.name)
    other = sa.Index("ix_l", LABELS.c.id)

    found = told(("add_index", index), ("remove_index", other), ("add_table", ARTISTS))

    assert [one.identifier for one in found] == [
        "index ix_l on s.labels (id): extra",
        "table artists: missing",
    ]


def test_what_does_not_count() -> None:
    """By schema and name; an entry that is of no table that is known counts always."""
    found = told(
        ("remove_table", ARTISTS),
        ("remove_table", LABELS),
        ("execute", "SELECT 1"),
        uncounted={("s", "labels"), (None, "labels")},
    )

    assert [one.identifier for one in found] == ["execute: SELECT 1", "table artists: extra"]
