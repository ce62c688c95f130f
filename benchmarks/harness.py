"""Runs a case beside its peer, alternating, and tells medians, spread and ratios."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

INSIDE = Path(__file__).with_name("inside.py")


class Sample(NamedTuple):
    """Seconds, or MB where a case measures memory; then `cpu` is the same."""

    wall: float
    cpu: float


@dataclass(frozen=True, kw_only=True)
class Row:
    """One case beside its peer; ratios are those of samples taken one after the other.

    `goal` is what the ratio is to be at most, or at least if `at_least`; None: only told.
    """

    case: str
    peer: str
    ours: Sequence[Sample]
    theirs: Sequence[Sample]
    unit: str = "ms"
    goal: float | None = None
    at_least: bool = False
    by: str = "cpu"

    def ratios(self, by: str) -> list[float]:
        """Ours to theirs, pair by pair; theirs to ours where more is better."""
        pairs = zip(self.ours, self.theirs, strict=True)
        found = [getattr(one, by) / getattr(other, by) for one, other in pairs]
        return sorted(1 / ratio if self.at_least else ratio for ratio in found)

    @property
    def met(self) -> str:
        """Whether the goal is reached by the median."""
        if self.goal is None:
            return ""
        ratio = median(self.ratios(self.by))
        return "yes" if (ratio >= self.goal if self.at_least else ratio <= self.goal) else "no"

    def cells(self) -> list[str]:
        """The row as the table has it."""
        scale = 1000 if self.unit == "ms" else 1
        ours, theirs = self.ours, self.theirs
        goal = "" if self.goal is None else f"{'≥' if self.at_least else '≤'} {self.goal:g}"
        cells = [self.case, self.peer]
        for by in ("wall", "cpu") if self.unit == "ms" else ("cpu",):
            values = sorted(getattr(one, by) * scale for one in ours)
            cells.append(
                f"{_figure(median(values))} ({_figure(values[0])} to {_figure(values[-1])})"
            )
            cells.append(_figure(median(getattr(one, by) * scale for one in theirs)))
        if self.unit != "ms":
            cells[2:2] = ["", ""]
        for by in ("wall", "cpu"):
            ratios = self.ratios(by)
            cells.append(f"{median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
        return [*cells, goal, self.met]


HEADINGS = (
    "case",
    "beside",
    "wall, ms (spread)",
    "theirs",
    "CPU, ms (spread)",
    "theirs",
    "ratio, wall (spread)",
    "ratio, CPU (spread)",
    "to reach",
    "met",
)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it is read in a terminal, too."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    lines = [headings, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )


def alternate(
    rounds: int, ours: Callable[[], Sample], theirs: Callable[[], Sample]
) -> tuple[list[Sample], list[Sample]]:
    """Measure both in every round, each first in every other one."""
    found: tuple[list[Sample], list[Sample]] = ([], [])
    for number in range(rounds):
        for one in (0, 1) if number % 2 == 0 else (1, 0):
            found[one].append((ours, theirs)[one]())
    return found


def environment(**variables: str) -> dict[str, str]:
    """What a child process gets: no settings of the caller's, and bytecode as is usual."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ORCHESTRATOR_", "PYTHON")) and name != "DATABASE_URL"
    }
    return {**kept, **variables}


def process(command: Sequence[str], directory: Path, **variables: str) -> Sample:
    """A whole process; raises `RuntimeError` with its stderr if it fails."""
    began = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        stderr = child.stderr.read() if child.stderr else ""
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {child.returncode}:\n{stderr}")
    return Sample(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)


def inside(directory: Path, case: str, *, times: int = 1, **options: Any) -> list[Sample]:
    """The samples of a case of `inside.py`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, str(INSIDE), case, json.dumps({"times": times, **options})],
        cwd=directory,
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return [Sample(*sample) for sample in json.loads(done.stdout)]


def middle(samples: Sequence[Sample]) -> Sample:
    """The median of what was repeated in one process."""
    return Sample(median(s.wall for s in samples), median(s.cpu for s in samples))


def machine() -> str:
    """What everything ran on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            model = next(line for line in file if line.startswith("model name")).split(":")[1]
    except (OSError, StopIteration):
        pass  # not Linux
    return f"{os.cpu_count()} CPUs, {model.strip()}, {platform.system()} {platform.release()}"


def _figure(value: float) -> str:
    return f"{value:,.2f}" if value < 10 else f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
