"""`make bench`: every case beside its peers, as one table, also in `benchmarks/results.md`.

python -m benchmarks                    # everything, some minutes
python -m benchmarks --smoke            # each case once with small numbers
python -m benchmarks --only cold,memory # some cases; nothing is written
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks import peers
from benchmarks.cases import CASES, Bench
from benchmarks.harness import HEADINGS, Row, machine, table

RESULTS = Path(__file__).with_name("results.md")
LIBRARIES = ("migration-orchestrator", "alembic", "sqlalchemy", "anyio", "structlog", "fastapi")


def main() -> None:
    """Measure, print, and write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--smoke", action="store_true", help="each case once, small")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case (5)")
    parser.add_argument("--only", default="", help="names of cases, with commas; `peers` too")
    arguments = parser.parse_args()
    wanted = set(filter(None, arguments.only.split(",")))
    rounds = 1 if arguments.smoke else arguments.rounds
    rows: list[Row] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(directory=Path(directory), rounds=rounds, smoke=arguments.smoke)
        for case in CASES:
            if not wanted or case.__name__ in wanted:
                for measured in case(bench):
                    # Small numbers show that the case works, and nothing else.
                    row = replace(measured, goal=None) if arguments.smoke else measured
                    rows.append(row)
                    print(" | ".join(row.cells()), flush=True)
        beside = peers.report(bench) if not wanted or "peers" in wanted else ""
    text = _report(rows, beside, rounds, time.monotonic() - began)
    print(f"\n{text}")
    if not (arguments.smoke or wanted):
        RESULTS.write_text(text)


def _report(rows: list[Row], beside: str, rounds: int, seconds: float) -> str:
    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        "# Results\n\n"
        "Made by `make bench`; `docs/performance.md` says what the figures mean.\n\n"
        f"- {datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {rounds} rounds, {seconds:.0f} s in all\n"
        f"- {machine()}\n"
        f"- Python {sys.version.split()[0]}, {versions}\n\n"
        "Medians, with the least and the most; a ratio is the median of those of neighbouring\n"
        "samples. Whether a goal is met is told by CPU time where one process is measured warm,\n"
        "by wall time where the disk takes part.\n\n"
        f"{table(HEADINGS, [row.cells() for row in rows])}\n\n{beside}"
    )


class _Plain(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the description."""


if __name__ == "__main__":
    main()
