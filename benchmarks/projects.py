"""The projects that are migrated: an Alembic project as its users have it, and its like."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent

ALEMBIC_INI = """
[alembic]
script_location = %(here)s/migrations
prepend_sys_path = %(here)s
sqlalchemy.url = sqlite:///app.db
"""

ENV_PY = """
from alembic import context
from sqlalchemy import engine_from_config, pool

from models import metadata

config = context.config


def run_migrations_online():
    section = config.get_section(config.config_ini_section, {})
    connectable = engine_from_config(section, prefix="sqlalchemy.", poolclass=pool.NullPool)
    with connectable.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata)
        with context.begin_transaction():
            context.run_migrations()


run_migrations_online()
"""

REVISION = '''"""table {number}

Revision ID: {name}
Revises: {parent}
Create Date: 2026-01-01 00:00:00

"""
from typing import Sequence, Union

from alembic import op
import sqlalchemy as sa

revision: str = "{name}"
down_revision: Union[str, Sequence[str], None] = {parent!r}
branch_labels: Union[str, Sequence[str], None] = None
depends_on: Union[str, Sequence[str], None] = None


def upgrade() -> None:
{body}


def downgrade() -> None:
    raise NotImplementedError
'''

ADD_COLUMN = """\
    op.add_column("table_{table}", sa.Column("column_{number}", sa.Integer(), nullable=True))"""

CREATE_TABLE = """\
    op.create_table(
        "table_{number}",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(length=100), nullable=False),
    )"""

MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
for number in range({tables}):
    sa.Table(
        f"made_{{number}}",
        metadata,
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("name", sa.String(100), nullable=False, index=True),
        sa.Column("parent", sa.ForeignKey("made_0.id")),
    )
"""

# Work that takes a while in every tool alike; SQLite has no sleep.
SLOW_STATEMENTS = (
    "CREATE TABLE table_{number} (id INTEGER)",
    (
        "INSERT INTO table_{number} WITH RECURSIVE c(x) AS "
        "(SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {rows}) SELECT max(x) FROM c"
    ),
)


def alembic_project(
    path: Path, revisions: int, *, tables: int = 0, slow_rows: int | None = None
) -> Path:
    """An Alembic project with a chain of revisions and a metadata of tables."""
    versions = path / "migrations" / "versions"
    versions.mkdir(parents=True)
    (path / "alembic.ini").write_text(ALEMBIC_INI.lstrip())
    (path / "models.py").write_text(MODELS.lstrip().format(tables=tables))
    (path / "migrations" / "env.py").write_text(ENV_PY.lstrip())
    parent = None
    for number in range(1, revisions + 1):
        name = f"{number:012x}"
        table = (number - 1) // 10 * 10 + 1  # one in ten makes a table, the others a column
        body = (CREATE_TABLE if number == table else ADD_COLUMN).format(number=number, table=table)
        if slow_rows is not None:
            body = "\n".join(f"    op.execute({one!r})" for one in slow_sql(number, slow_rows))
        text = REVISION.format(number=number, name=name, parent=parent, body=body)
        (versions / f"{name}_table_{number}.py").write_text(text)
        parent = name
    return path


def slow_sql(number: int, rows: int) -> list[str]:
    """The statements of one slow migration; 1,000,000 rows are about 0.3 s of work."""
    return [text.format(number=number, rows=rows) for text in SLOW_STATEMENTS]


def sql_of(number: int, slow_rows: int | None) -> list[str]:
    """The statements of one migration, for tools that take SQL."""
    if slow_rows is not None:
        return slow_sql(number, slow_rows)
    table = (number - 1) // 10 * 10 + 1
    if number != table:
        return [f"ALTER TABLE table_{table} ADD COLUMN column_{number} INTEGER"]
    return [f"CREATE TABLE table_{number} (id INTEGER PRIMARY KEY, name VARCHAR(100) NOT NULL)"]


def yoyo_project(path: Path, revisions: int, slow_rows: int | None = None) -> Path:
    """The same migrations for yoyo."""
    migrations = path / "migrations"
    migrations.mkdir(parents=True)
    for number in range(1, revisions + 1):
        steps = "".join(f"    step({one!r}),\n" for one in sql_of(number, slow_rows))
        (migrations / f"{number:04}_table.py").write_text(
            f"from yoyo import step\n\nsteps = [\n{steps}]\n"
        )
    return path


def django_project(path: Path, revisions: int, slow_rows: int | None = None) -> Path:
    """The same migrations for Django."""
    migrations = path / "tables" / "migrations"
    migrations.mkdir(parents=True)
    (path / "tables" / "__init__.py").touch()
    (migrations / "__init__.py").touch()
    settings = """
        SECRET_KEY = "none"
        INSTALLED_APPS = ["tables"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "app.db"}}
        DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    """
    (path / "settings.py").write_text(dedent(settings).lstrip())
    parent = None
    for number in range(1, revisions + 1):
        name = f"{number:04}_table"
        dependencies = [("tables", parent)] if parent else []
        (migrations / f"{name}.py").write_text(
            "from django.db import migrations\n\n\n"
            "class Migration(migrations.Migration):\n"
            f"    dependencies = {dependencies!r}\n"
            f"    operations = [migrations.RunSQL({sql_of(number, slow_rows)!r})]\n"
        )
        parent = name
    return path


def dbmate_project(path: Path, revisions: int, slow_rows: int | None = None) -> Path:
    """The same migrations for dbmate."""
    migrations = path / "db" / "migrations"
    migrations.mkdir(parents=True)
    for number in range(1, revisions + 1):
        statements = "".join(f"{one};\n" for one in sql_of(number, slow_rows))
        (migrations / f"2026{number:010}_table.sql").write_text(
            f"-- migrate:up\n{statements}\n-- migrate:down\n"
        )
    return path


def forget_database(path: Path) -> None:
    """Remove the database of a project, and all that was kept beside it."""
    for name in ("app.db", "app.db-journal", "app.db-wal", "app.db-shm"):
        (path / name).unlink(missing_ok=True)
    for directory in (path / ".app.db.orchestrator", path / "app.db.lock"):
        shutil.rmtree(directory, ignore_errors=True)
