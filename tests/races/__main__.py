"""`python -m tests.races --rounds N --seed S [--seconds T]`: run rounds, tell what came of them."""

from __future__ import annotations

import argparse
import atexit
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.races import mariadb
from tests.races.hosts import Rounds
from tests.races.plan import make_round
from tests.races.race import Race, Result, undisturbed
from tests.zygote import prepare


def main() -> int:
    """Exit code 1 if an invariant was violated."""
    parser = argparse.ArgumentParser(prog="python -m tests.races", description=__doc__)
    parser.add_argument("--rounds", type=int, help="at most so many; default: 20 without --seconds")
    parser.add_argument("--seconds", type=float, help="begin no round after so many seconds")
    parser.add_argument("--seed", type=int, help="of the first round; default: a random one")
    parser.add_argument("--database", choices=["sqlite", "postgresql", "mariadb"], default="sqlite")
    parser.add_argument("--verbose", action="store_true", help="tell the log of every round")
    arguments = parser.parse_args()
    seed = random.randrange(10**9) if arguments.seed is None else arguments.seed
    rounds = arguments.rounds or (20 if arguments.seconds is None else 10**9)
    prepare()
    if arguments.database == "sqlite":
        prefixes = undisturbed()
        run: Run = partial(_sqlite, prefixes)
    else:
        hosts = mariadb.Rounds() if arguments.database == "mariadb" else Rounds()
        run = hosts.run
        atexit.register(hosts.close)
    began = time.monotonic()
    faults: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    done = violated = 0
    _say(f"seed {seed}")
    for number in range(rounds):
        if arguments.seconds is not None and time.monotonic() - began > arguments.seconds:
            break
        result = _run(seed + number, run, arguments.database, verbose=arguments.verbose)
        faults += result.faults
        ends += result.ends
        done += 1
        violated += bool(result.violations)
        if done % 50 == 0:
            _say(f"{done} rounds, {violated} with violations, {time.monotonic() - began:.0f} s")
    _say(f"rounds      {done} (seeds {seed} to {seed + done - 1})")
    _say(f"seconds     {time.monotonic() - began:.0f}")
    _say(f"processes   {ends.total()}: {_told(ends)}")
    _say(f"faults      {faults.total()}: {_told(faults)}")
    _say(f"violations  {violated}")
    return 1 if violated else 0


Run = Callable[[int], tuple[object, Result, Path]]


def _sqlite(prefixes: list[tuple[str, ...]], seed: int) -> tuple[object, Result, Path]:
    race = make_round(seed)
    path = Path(tempfile.mkdtemp(prefix=f"race-{seed}-"))
    return race, Race(race, path, prefixes).run(), path


def _run(seed: int, run: Run, database: str, *, verbose: bool) -> Result:
    race, result, path = run(seed)
    if result.violations or verbose:
        _say(f"--- round {seed}: {len(result.violations)} violations")
        for line in (*result.violations, str(race), *result.log):
            _say(line)
        _say(
            f"repeat it with: python -m tests.races --database {database} --rounds 1 "
            f"--seed {seed} --verbose"
        )
    if result.violations:
        _say(f"kept: {path}")
    else:
        shutil.rmtree(path, ignore_errors=True)
    return result


def _told(counter: Counter[str]) -> str:
    return ", ".join(f"{kind} {number}" for kind, number in sorted(counter.items())) or "none"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
