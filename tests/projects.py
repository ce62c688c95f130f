"""Small Alembic projects, made anew for a test, and processes that run in them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

ENV_PY = """
from orchestrator.environment import run_migrations
from models import metadata

run_migrations(target_metadata=metadata)
"""

MODELS = """
import sqlalchemy as sa

metadata = sa.MetaData()
"""


@dataclass(frozen=True)
class Project:
    """An Alembic project in a directory of its own, on the SQLite file `app.db` in it."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "app.db"

    @property
    def url(self) -> str:
        return f"sqlite:///{self.database}"

    @property
    def state(self) -> Path:
        return self.path / ".app.db.orchestrator"

    @property
    def heads(self) -> Path:
        """The file of what is remembered for a warm start; there must be one."""
        [file] = self.state.glob("heads-*.json")
        return file

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project; the text is dedented."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).lstrip("\n"))
        return file

    def revision(
        self,
        name: str,
        parent: str | tuple[str, ...] | None,
        upgrade: str = "",
        downgrade: str = "",
        *,
        seconds: float = 0.0,
        depends_on: str | None = None,
        labels: str | None = None,
    ) -> Path:
        """Write a revision file; by default it makes and drops a table of its name.

        With `seconds` it takes that long after its work and before its end.
        """
        table = f"t_{name}"
        up = upgrade or f'op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))'
        down = downgrade or f'op.drop_table("{table}")'
        body = dedent(up) + (f"\ntime.sleep({seconds})" if seconds else "")
        return self.write(
            f"migrations/versions/{name}.py",
            f'"""revision {name}"""\n'
            "import time\n"
            "import sqlalchemy as sa\n"
            "from alembic import op\n\n"
            f"revision = {name!r}\n"
            f"down_revision = {parent!r}\n"
            f"branch_labels = {labels!r}\n"
            f"depends_on = {depends_on!r}\n\n\n"
            f"def upgrade():\n{indent(body, '    ')}\n\n\n"
            f"def downgrade():\n{indent(dedent(down), '    ')}\n",
        )

    def chain(self, length: int, *, seconds: float = 0.0) -> tuple[str, ...]:
        """Write revisions r1 … rN, one after the other; returns their names."""
        names = tuple(f"r{number}" for number in range(1, length + 1))
        for name, parent in zip(names, (None, *names), strict=False):
            self.revision(name, parent, seconds=seconds)
        return names

    def environment(self, **variables: str) -> dict[str, str]:
        """The variables of a process in this project: none of the suite's own settings."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ORCHESTRATOR_") and name != "DATABASE_URL"
        }
        return {
            **kept,
            "ORCHESTRATOR_DATABASE_URL": self.url,
            "ORCHESTRATOR_SCRIPT_LOCATION": "migrations",
            "PYTHONPATH": str(self.path),
            **variables,
        }

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        """Start the command line in this project."""
        return subprocess.Popen(
            [sys.executable, "-m", "orchestrator", *arguments],
            cwd=self.path,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **variables: str) -> Finished:
        """Run the command line in a process forked for it, to its end, 60 s at most."""
        from tests.zygote import shared_zygote

        return shared_zygote().start(self, *arguments, **variables)[0].finish()

    def journal(self) -> list[dict[str, Any]]:
        """The lines of the journal; not one that is being written at this moment."""
        whole, _, _ = (self.state / "journal.jsonl").read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.split(b"\n") if line]


@dataclass(frozen=True)
class Finished:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed, which must be one JSON document."""
        return json.loads(self.stdout)


def finish(process: subprocess.Popen[str], *, seconds: float = 60) -> Finished:
    """Wait for a process; after the deadline it is killed and the test fails."""
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        raise AssertionError(f"not ended after {seconds} s: {stdout}\n{stderr}") from None
    return Finished(process.returncode, stdout, stderr)


def make_project(path: Path) -> Project:
    """A project without revisions, whose `env.py` is the library's one call."""
    project = Project(path)
    project.write("models.py", MODELS)
    project.write("migrations/env.py", ENV_PY)
    (path / "migrations" / "versions").mkdir()
    return project
