"""URLs whose characters mean something to a config parser or to a URL."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.config import Config
from sqlalchemy.engine import URL, make_url

from orchestrator.databases.postgresql.database import PostgreSQL
from orchestrator.databases.url import redact, secrets_of
from orchestrator.revisions.environment_context import _give_url
from tests.compat.projects import assert_ready, existing, from_template
from tests.projects import Finished

Run = Callable[..., Finished]

PASSWORDS = [
    "100%",
    "%(here)s",
    "%%",
    "a@b",
    "a/b",
    "a:b",
    "a b",
    "pä€ß",
    "?#&=+;",
    "'\"\\",
    "$x{y}",
]
NAMES = ["100%.db", "%(here)s.db", "a b.db", "ä€.db", "a+b;c.db", "it's.db", "%25.db"]


@pytest.mark.parametrize("password", PASSWORDS)
class TestPasswords:
    """Passwords of any characters, on their way to `env.py`."""

    def test_reach_env_py(self, tmp_path: Path, password: str) -> None:
        """By every function by which an `env.py` can read its URL."""
        url = URL.create("postgresql+psycopg", "me", password, "db.example", 5432, "app")
        (tmp_path / "alembic.ini").write_text("[alembic]\nsqlalchemy.url = driver://x\n")
        config = Config(tmp_path / "alembic.ini")

        _give_url(config, PostgreSQL(url))

        section = config.get_section("alembic", {})
        for text in (
            config.get_main_option("sqlalchemy.url"),
            config.get_alembic_option("sqlalchemy.url"),
            section["sqlalchemy.url"],
        ):
            assert text is not None
            assert make_url(text) == url

    def test_are_never_shown(self, password: str) -> None:
        """Neither as they are nor as a URL has them."""
        url = URL.create("postgresql+psycopg", "me", password, "db.example", 5432, "app")
        written = url.render_as_string(hide_password=False)

        assert make_url(redact(url)).password == "***"
        assert password not in (secrets_of(url).quote(f"no connection with {password}") or "")
        assert secrets_of(url).quote(f"no {written}") == f"no {redact(url)}"


@pytest.mark.parametrize(
    ("name", "template"), [*((name, "generic") for name in NAMES), (NAMES[1], "async")]
)
def test_names_of_files(tmp_path: Path, run: Run, name: str, template: str) -> None:
    """A SQLite file of any name, given to the orchestrator, is the one that `env.py` opens."""
    project = from_template(tmp_path, template)
    project.revision("r1", None)

    url = URL.create("sqlite+aiosqlite" if template == "async" else "sqlite", database=name)
    ended = run(project, "run", "--json", "--database-url", url.render_as_string())

    assert_ready(ended, "r1")
    assert (tmp_path / name).stat().st_size > 0


def test_a_name_in_a_process_of_its_own(tmp_path: Path) -> None:
    """By the variable `DATABASE_URL`, and by an `alembic.ini` in which `%` is written `%%`."""
    project = from_template(tmp_path, "generic", "sqlite:///100%%%%.db".replace("%%%%", "%%"))
    project.revision("r1", None)

    assert_ready(project.run("run", "--json"), "r1")
    assert (tmp_path / "100%.db").exists()
    assert_ready(project.run("run", "--json", DATABASE_URL="sqlite:///ä 5%.db"), "r1")
    assert (tmp_path / "ä 5%.db").exists()


@pytest.mark.parametrize("password", ["hun%ter2hunter2", "hun%(ter)shunter2"])
@pytest.mark.parametrize("command", ["run", "status"])
def test_a_percent_sign_that_is_not_doubled(
    tmp_path: Path, run: Run, command: str, password: str
) -> None:
    """Alembic cannot read it either: the error says how it is written, and shows nothing of it."""
    project = existing(tmp_path)
    project.replace("alembic.ini", "sqlite:///app.db", f"postgresql://me:{password}@host/db")
    project.revision("r1", None)

    ended = run(project, command, "--json", "--verbose")

    assert ended.code == 2
    assert ended.json["error"]["type"] == "ConfigurationError"
    for word in ("alembic.ini", "`%%`"):
        assert word in ended.json["error"]["message"]
    assert "Traceback" in ended.stderr
    for piece in ("hun", "ter2", "(ter", "host/db", "'ter'"):
        assert piece not in ended.stdout + ended.stderr
