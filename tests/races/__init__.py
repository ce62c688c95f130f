"""The race harness: real processes, faults at random instants, invariants afterwards.

    python -m tests.races --rounds 500 --seed 1

A round is made from its seed alone, and each has its own: the n-th round of a seed S has the
seed S + n. A failing one is repeated by `--rounds 1 --seed` with its number; what is repeated
is the plan, not the instants at which the kernel schedules it.
"""
