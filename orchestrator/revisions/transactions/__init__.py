"""The transaction of a pass, for each kind of database, by the name of SQLAlchemy's dialect."""

from __future__ import annotations

from typing import Final

from orchestrator.revisions.transactions.base import Transaction
from orchestrator.revisions.transactions.mysql import MySQLTransaction
from orchestrator.revisions.transactions.postgresql import PostgreSQLTransaction
from orchestrator.revisions.transactions.sqlite import SQLiteTransaction
from orchestrator.revisions.transactions.sqlite_untouched import UntouchedSQLite

TRANSACTIONS: Final[dict[str, type[Transaction]]] = {
    "mariadb": MySQLTransaction,
    "mysql": MySQLTransaction,
    "postgresql": PostgreSQLTransaction,
    "sqlite": SQLiteTransaction,
}
UNTOUCHED: Final[dict[str, type[Transaction]]] = {**TRANSACTIONS, "sqlite": UntouchedSQLite}
"""With `transaction = "off"`: those whose transactions are Alembic's own in any case, and one."""
