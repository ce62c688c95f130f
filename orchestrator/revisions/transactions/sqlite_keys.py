"""Rows whose foreign key has no parent, as SQLite finds them."""

from __future__ import annotations

import sqlite3
from collections import Counter
from typing import Any

from orchestrator.revisions.transactions.sqlite_driver import Driver

Violations = Counter[tuple[str, str]]
"""How many rows, by their table and that of the parent which they lack."""


def violations(driver: Driver) -> Violations:
    """What violates a foreign key now.

    Not by row: a table that is copied may number its rows anew.
    """
    try:
        rows = driver.execute("PRAGMA foreign_key_check")
    except sqlite3.DatabaseError:
        rows = _by_table(driver)
    return Counter((table, parent) for table, _, parent, _ in rows)


def _by_table(driver: Driver) -> list[Any]:
    """Without the tables that have a key which fits no unique columns of its parent.

    SQLite cannot check those, nor enforce that key; whoever never writes to them never sees it
    (https://www.sqlite.org/foreignkeys.html#fk_indexes).
    """
    rows: list[Any] = []
    for (table,) in driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
        quoted = table.replace('"', '""')
        try:
            rows.extend(driver.execute(f'PRAGMA foreign_key_check("{quoted}")'))
        except sqlite3.DatabaseError:
            continue
    return rows
