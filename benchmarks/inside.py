"""What is measured inside a process of its own, with everything imported beforehand.

    python inside.py CASE OPTIONS

in a project's directory; prints one JSON list of [wall, CPU] in seconds, one for each time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any


def main() -> None:
    """Prepare a case, and measure it as often as the options say."""
    case, options = sys.argv[1], json.loads(sys.argv[2])
    sys.path.insert(0, "")
    CASES[case](options)


def _measured(work: Callable[[], Any], times: int) -> None:
    samples = []
    for _ in range(times):
        cpu, wall = time.process_time(), time.perf_counter()
        work()
        samples.append((time.perf_counter() - wall, time.process_time() - cpu))
    print(json.dumps(samples))


def _orchestrator(options: dict[str, Any]) -> None:
    """`await orchestrator.run()`, cold or warm, as the database is."""
    import anyio
    import sqlalchemy.dialects.sqlite  # noqa: F401 - as an application has it

    from orchestrator import Orchestrator, Settings

    if options.get("alembic"):  # a cold start is measured without Alembic's import
        import alembic.command  # noqa: F401 - for its time

        import orchestrator.revisions.env_py
    import orchestrator.journal.writer  # noqa: F401 - its import is measured in a case of its own

    settings = Settings(database_url="sqlite:///app.db", **options.get("settings", {}))

    async def measure() -> None:
        samples = []
        for _ in range(options["times"]):
            instance = Orchestrator(settings)
            cpu, wall = time.process_time(), time.perf_counter()
            await instance.run()
            samples.append((time.perf_counter() - wall, time.process_time() - cpu))
        print(json.dumps(samples))

    anyio.run(measure)


def _alembic_upgrade(options: dict[str, Any]) -> None:
    import sqlalchemy.dialects.sqlite  # noqa: F401 - as an application has it
    from alembic import command
    from alembic.config import Config

    _measured(lambda: command.upgrade(Config("alembic.ini"), "heads"), options["times"])


def _create_and_stamp(options: dict[str, Any]) -> None:
    import sqlalchemy
    from alembic import command
    from alembic.config import Config
    from models import metadata  # the project's

    def work() -> None:
        engine = sqlalchemy.create_engine("sqlite:///app.db")
        metadata.create_all(engine)
        command.stamp(Config("alembic.ini"), "heads")

    _measured(work, options["times"])


CASES: dict[str, Callable[[dict[str, Any]], None]] = {
    "orchestrator": _orchestrator,
    "alembic-upgrade": _alembic_upgrade,
    "create-and-stamp": _create_and_stamp,
}

if __name__ == "__main__":
    main()
