"""Real starts for the documents: `make picture` draws docs/start.svg from them.

A release whose last revision fails, its repair, and a restart, by processes of two hosts. The
journal stays in the directory that is printed: docs/logs.md shows it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.projects import Project, make_project
from tests.zygote import Forked, Zygote

TABLES = """
op.create_table("artist", sa.Column("id", sa.Integer, primary_key=True))
op.create_table("track", sa.Column("id", sa.Integer), sa.Column("artist", sa.Integer))
"""
CASCADE = """
with op.batch_alter_table("track") as table:
    table.create_foreign_key("artist", "artist", ["artist"], ["id"], ondelete="CASCADE")
"""
COUNT = 'op.execute("UPDATE track SET plays = 0")'
COLUMN = 'op.add_column("track", sa.Column("plays", sa.Integer))'

HOST = """
import socket

socket.gethostname = lambda: "{host}"
"""


REVISIONS = (
    ("3d1f0a9c77b2", "create artists, albums and tracks", TABLES, 1.6),
    ("8c40e2b1559a", "add ON DELETE CASCADE to the foreign keys", CASCADE, 2.4),
    ("b7725d6e0f13", "count the plays of each track", COUNT, 1.2),
)


def write(project: Project) -> None:
    """Write the revisions, each of which takes so many seconds."""
    parent = None
    for revision, about, work, seconds in REVISIONS:
        file = project.revision(revision, parent, work, seconds=seconds)
        file.write_text(file.read_text().replace(f"revision {revision}", about))
        parent = revision


def start(zygote: Zygote, project: Project, release: str, pauses: dict[str, list[float]]) -> None:
    """Start processes on each host, one after the other, and wait for their end."""
    started: list[Forked] = []
    for host, seconds in pauses.items():
        prelude = project.write(f"{host}.py", HOST.format(host=host))
        for pause in seconds:
            time.sleep(pause)
            started += zygote.start(
                project,
                "run",
                prelude=prelude,
                ORCHESTRATOR_RELEASE=release,
                ORCHESTRATOR_DATABASE_URL="sqlite:///var/app.db",
            )
    for process in started:
        process.finish()


def main(picture: Path) -> None:
    """Run the starts, and draw the one that succeeded."""
    path = Path(tempfile.mkdtemp(prefix="start-"))
    project, zygote = make_project(path), Zygote()
    (path / "var").mkdir()
    write(project)
    start(zygote, project, "1.4.1", {"web-1": [0, 0.2, 0.2]})
    time.sleep(6)  # what begins sooner belongs to the start before it
    last = path / "migrations/versions/b7725d6e0f13.py"
    last.write_text(last.read_text().replace(COUNT, f"{COLUMN}\n    {COUNT}"))
    start(zygote, project, "1.4.2", {"web-1": [0, 0.3, 0.3, 0.4], "web-2": [0.5, 0.2, 0.3]})
    time.sleep(6)
    start(zygote, project, "1.4.2", {"web-1": [0]})
    zygote.close()
    journal = path / "var/.app.db.orchestrator/journal.jsonl"
    logs = [sys.executable, "-m", "orchestrator", "logs"]
    runs = subprocess.run(
        [*logs, "runs", "--led", "--outcome", "ready", "--json", "--journal", journal],
        capture_output=True, check=True,
    )  # fmt: skip
    [leader] = json.loads(runs.stdout)["runs"]
    timeline = [*logs, "timeline", leader["run_id"], "--journal", journal]
    subprocess.run([*timeline, "--svg", picture], check=True)
    sys.stdout.write(f"{journal}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
