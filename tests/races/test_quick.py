"""A short race of fixed seeds; `make soak` runs the long one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.races.plan import FAULTS, make_round
from tests.races.processes import ROOT
from tests.servers.mariadb import needs_mariadb

ROUNDS = 3
SEEDS = (300, 920)


HOSTS_SEED = 12


@pytest.mark.slow
@pytest.mark.parametrize(
    ("database", "seed"),
    [*(("sqlite", seed) for seed in SEEDS), ("postgresql", HOSTS_SEED), ("mariadb", HOSTS_SEED)],
)
def test_no_invariant_is_violated(database: str, seed: int) -> None:
    """Whatever is killed, stopped, filled or overwritten: nobody skips, nobody is stuck."""
    if database == "mariadb":
        needs_mariadb()
    race = subprocess.run(
        [
            *(sys.executable, "-m", "tests.races", "--database", database),
            *("--rounds", str(ROUNDS), "--seed", str(seed)),
        ],
        cwd=ROOT,
        env=os.environ.copy(),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert race.returncode == 0, race.stdout + race.stderr
    assert f"rounds      {ROUNDS}" in race.stdout


def test_a_round_is_repeatable() -> None:
    """A seed makes the same round every time, and neighbours make others."""
    assert make_round(7) == make_round(7)
    assert len({str(make_round(seed)) for seed in range(50)}) == 50


def test_every_fault_is_among_the_fixed_seeds() -> None:
    """The short race has all kinds of faults, moved clocks and small disks in it."""
    races = [make_round(seed + number) for seed in SEEDS for number in range(ROUNDS)]

    assert {fault.kind for race in races for fault in race.faults} == set(FAULTS)
    assert any(racer.clock_seconds for race in races for racer in race.racers)
    assert any(racer.fresh for race in races for racer in race.racers)
    assert {race.small_disk for race in races} == {True, False}
    assert any(race.broken for race in races)
