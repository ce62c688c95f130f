"""One real transaction on SQLite, for whatever connection `env.py` brings.

Python's driver begins transactions by itself, late, and never for DDL; SQLAlchemy leaves that
as it is (https://docs.sqlalchemy.org/en/20/dialects/sqlite.html#pysqlite-serializable). So a
migration that is killed leaves half of itself behind. Here the driver is told to begin none,
and `BEGIN IMMEDIATE` is sent before anything is read that a decision rests on.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy.engine import Connection

from orchestrator.databases.base import Database
from orchestrator.databases.patience import READER, WAIT_LONGER, WRITER, Patience, Wait
from orchestrator.databases.quoting import told
from orchestrator.errors import DatabaseUnavailable, TaskFailed, by_setting
from orchestrator.revisions.transactions.base import EndedBy, Transaction, TransactionError
from orchestrator.revisions.transactions.marker import MarkerInside
from orchestrator.revisions.transactions.sqlite_commits import Commits
from orchestrator.revisions.transactions.sqlite_driver import Driver
from orchestrator.revisions.transactions.sqlite_keys import Violations, violations

_TRY_MILLISECONDS: Final = 50
_LONGEST_MILLISECONDS: Final = 2**31 - 1
"""What SQLite takes as a time, 24 days; more, or for ever, is that."""

_NOT_IN_A_TRANSACTION: Final = ("VACUUM", "PRAGMA", "ATTACH", "DETACH", "BEGIN", "COMMIT", "END")
_COMMENTS: Final = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_ENDS: Final = re.compile(
    rf"{_COMMENTS}(?:(COMMIT|END)|ROLLBACK(?!\s+(?:TRANSACTION\s+)?TO))\b",
    re.IGNORECASE | re.DOTALL,
)
_BEGINS: Final = re.compile(rf"{_COMMENTS}BEGIN\b", re.IGNORECASE | re.DOTALL)
_JOURNAL_MODE: Final = re.compile(
    r"\s*PRAGMA\s+(?:\w+\.)?journal_mode\s*[=(]\s*['\"]?(\w+)", re.IGNORECASE
)


class NotInTransaction(TransactionError):
    """A statement that SQLite does not obey in a transaction."""

    def __init__(self, statement: str) -> None:
        super().__init__(f"SQLite does not obey {statement.strip()} in a transaction")
        self.statement = statement


class SQLiteTransaction(Transaction):
    """One real transaction.

    Enforcement of foreign keys is off inside, as batch mode drops and renames tables, which
    would cascade; violations that are new are an error at the end. A transaction that `env.py`
    has begun and written in is gone on with as it is: nothing of it may be committed before all
    is decided.
    """

    looks = re.compile(
        rf"{_COMMENTS}"
        r"(?:SELECT|PRAGMA|EXPLAIN|VALUES|BEGIN|COMMIT|END|ROLLBACK|SAVEPOINT|RELEASE)\b",
        re.IGNORECASE | re.DOTALL,
    )
    transactional_ddl = True  # SQLite has it; Alembic only assumes that the driver spoils it
    commits_itself = True

    def __init__(
        self,
        connection: Connection,
        *,
        database: Database,
        patience: Patience,
        limit_seconds: float = 0.0,
    ) -> None:
        super().__init__(
            connection, database=database, patience=patience, limit_seconds=limit_seconds
        )
        self._driver = Driver(connection)
        self._violations: Violations | None = None
        self._ended_by: EndedBy | None = None
        self._autocommit = False
        self._unsettled = False
        self._began = False
        self._commits = Commits(database)

    @property
    def is_open(self) -> bool:
        """Whether the driver is in a transaction."""
        return self._driver.in_transaction

    @property
    def rolled_back(self) -> bool:
        """Whether the step in hand took its transaction back, and nothing of the pass is kept."""
        return self._ended_by == "rollback" and not self.committed

    def begin(self) -> None:
        """Begin. Waits for another writer, then raises `DatabaseUnavailable`."""
        self._listen("begin", self._on_begin)
        self._listen("set_connection_execution_options", self._on_options)
        self._listen("rollback", self._on_rollback)
        self._commits.watch()
        self._began = True
        if self.is_open and not self._has_written():
            self._driver.execute("ROLLBACK")
        if not self.is_open:
            self._driver.take()
            if self._driver.execute("PRAGMA foreign_keys")[0][0]:
                self._driver.execute("PRAGMA foreign_keys = OFF")
                self._violations = violations(self._driver)
        self.ensure()

    def ensure(self) -> None:
        """Begin again if the transaction was ended, as Alembic does between revisions."""
        if self.is_open:
            return
        self._driver.take()
        wait = self._patience.wait()
        self._driver.execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")
        while True:
            try:
                self._driver.execute("BEGIN IMMEDIATE")
                break
            except Exception as error:
                known = self._database.explain(error)
                if known is not None and not known.busy:
                    raise known from error
                if known is None:
                    reason = told(error, self._database.secrets)
                    raise self._unavailable(f"cannot be written: {reason}.", wait) from error
                if wait.is_over:
                    raise self._unavailable(
                        f"was busy with another writer for {wait.seconds:.1f} s. {WAIT_LONGER}",
                        wait,
                        busy=True,
                    ) from error
            # Only while there is somebody to wait for: a revision that was said to begin begins.
            self._patience.interrupted()
            wait.tell(WRITER)
        # Readers can be in the way of a commit of Alembic's.
        milliseconds = min(self._patience.timeout_seconds * 1000, _LONGEST_MILLISECONDS)
        self._driver.execute(f"PRAGMA busy_timeout = {int(milliseconds)}")
        self._commits.mark()

    def before_step(self) -> None:
        """Make sure that a revision runs in a transaction of ours."""
        super().before_step()
        self.resume()

    def resume(self) -> None:
        """Have a transaction of ours again."""
        self._settle_down()
        self._ended_by = None

    @property
    def _is_within(self) -> bool:
        """Whether what is done now is committed with the version row."""
        return self.is_open

    def failed(self, error: BaseException) -> None:
        """Find out what was committed without a word, and say so in a mark.

        Nothing is done where the first statement was refused that commits by itself.
        """
        if not (self.division.done or self.is_open):
            self.division.undivided()
        if self.division.in_step and self._is_ended_in_silence and self._commits.since_mark():
            self._notice()

    def after_step(self) -> EndedBy | None:
        """By what the revision ended its transaction.

        What ended it first counts: a rollback takes other revisions' work away, and what is
        committed after that is another transaction's.
        """
        super().after_step()
        self._notice()
        if self._ended_by == "commit":
            self.committed = True
        return self._ended_by

    def check(self, revision: str | None = None) -> None:
        """Raise `TaskFailed` for rows that lost their parent in this transaction."""
        if self._violations is None:
            return
        new = violations(self._driver) - self._violations
        if new:
            told = ", ".join(f"{table} -> {parent}: {n}" for (table, parent), n in new.items())
            what = f"Revision {revision}" if revision else "The migration"
            raise TaskFailed(
                f"{what} left rows whose foreign key has no parent ({told}). The transaction is "
                "rolled back. Enforcement is off inside a migration: delete or move such rows "
                "in the migration itself.",
                task="upgrade",
                revision=revision,
            )

    def end(self) -> None:
        """Commit, whether or not Alembic or `env.py` would, and give the connection back.

        Raises `DatabaseUnavailable` where readers are in the way for too long.
        """
        if self.is_open:
            self._commit()
        super().end()
        self._driver.give_back()

    def abandon(self) -> None:
        """Roll back what a pass left open, where `env.py` did not close its connection."""
        super().abandon()
        self._driver.roll_back()
        committed = self._commits.since_watched()
        self._commits.stop()
        if committed is not None:
            self.committed = committed

    def advice(self, error: BaseException) -> str | None:
        """What to do about a statement that a transaction does not take."""
        statement = str(getattr(error, "statement", "") or "").lstrip().upper()
        if not statement.startswith(_NOT_IN_A_TRANSACTION):
            return super().advice(error)
        return (
            "Revisions run in one transaction here. One that must run outside of it needs "
            f"{by_setting('transaction', 'off')}, which is Alembic's own way and leaves half of a "
            "revision behind when it is killed."
        )

    def _commit(self) -> None:
        """Commit; a cancellation waits, too, as what has run is to be kept."""
        wait = self._patience.wait()
        self._driver.execute(f"PRAGMA busy_timeout = {_TRY_MILLISECONDS}")
        while True:
            try:
                self._driver.execute("COMMIT")
                return
            except Exception as error:
                known = self._database.explain(error)
                if known is None or not known.busy:
                    raise
                if wait.is_over:
                    raise self._unavailable(
                        f"could not be committed to: another connection was reading it for all of "
                        f"the {wait.seconds:.1f} s that were waited. {WAIT_LONGER}",
                        wait,
                        busy=True,
                    ) from error
            wait.tell(READER)

    def _notice(self) -> None:
        """Find out how the transaction ended, where nobody was told.

        By the driver's own methods, or by SQLite itself: a conflict that rolls back, a full disk.
        """
        if not self._is_ended_in_silence:
            return
        undone = self._commits.since_mark() is False
        self._ended_by = "rollback" if undone else "commit"
        if not undone and self.division.in_step:
            # By the driver itself: what came before it is committed, and no mark with it.
            self.division.wrote = True
            self.ensure()
            self.division.at_commit()
            self._driver.execute("COMMIT")

    @property
    def _is_ended_in_silence(self) -> bool:
        return self._began and not (
            self._ended_by or self.is_open or self._unsettled or self._autocommit
        )

    def _has_written(self) -> bool:
        """Whether anything may have been written in the transaction that was found open.

        Rows that were changed before it began are counted, too: nothing tells them apart.
        """
        with self._database.connect() as others:
            committed = others.exec_driver_sql("PRAGMA schema_version").scalar()
        schema = self._driver.execute("PRAGMA schema_version")[0][0]
        rows = self._driver.execute("SELECT total_changes()")[0][0]
        return bool(rows) or schema != committed

    def _on_options(self, _: Connection, options: dict[str, Any]) -> None:
        # The driver's isolation level is ours: an autocommit block only has to begin none.
        level = options.pop("isolation_level", None)
        if level is None:
            return
        self._autocommit = str(level).upper() == "AUTOCOMMIT"
        # What Alembic commits before and after such a block is no revision's own doing.
        self._ended_by = None
        if self._autocommit:
            # Nor may another connection be in the way of what is to be done in it.
            self._commits.stop()

    def _on_begin(self, _: Connection) -> None:
        # The application may send a BEGIN of its own next, as SQLAlchemy's recipe has it. And an
        # autocommit block of Alembic's begins a SQLAlchemy transaction that must be none.
        self._unsettled = not self._autocommit and not self.is_open

    def _settle_down(self) -> None:
        """Make what SQLAlchemy and the application have begun a transaction of ours."""
        if self._unsettled and self.is_open:
            self._driver.execute("ROLLBACK")  # nothing was done in it yet
        self._unsettled = False
        self.ensure()

    def _on_commit(self, connection: Connection) -> None:
        if self.is_open:
            self.division.at_commit()
        super()._on_commit(connection)
        if not self.division.in_step:
            self.division.divided = False
        self._ended_by = self._ended_by or "commit"

    @property
    def _by_itself(self) -> bool:
        """In an autocommit block."""
        return self._autocommit

    def _make_marker(self, database: Database) -> MarkerInside:
        return MarkerInside(
            database,
            self.connection,
            send=self._send,
            ask=lambda statement: self._send(statement)[0],
            atomic=lambda: True,
        )

    def _send(self, statement: str) -> Any:
        return self._driver.execute(statement)

    def _on_rollback(self, _: Connection) -> None:
        self._ended_by = self._ended_by or "rollback"

    def _on_execute(self, connection: Connection, cursor: Any, statement: str, *more: Any) -> None:
        super()._on_execute(connection, cursor, statement, *more)
        if not self._began:
            return
        if not _BEGINS.match(statement):
            self._notice()
            if not self._autocommit:
                self._settle_down()
        division = self.division
        if self._autocommit and division.in_step and not division.only_looks(statement):
            division.divide()
        if ends := _ENDS.match(statement):
            self._ended_by = self._ended_by or ("commit" if ends[1] else "rollback")
            if ends[1] and self.is_open:
                division.at_commit()
        # SQLite keeps the mode in a transaction, and does not say so.
        asked = _JOURNAL_MODE.match(statement)
        if asked and self.is_open:
            mode = self._driver.execute("PRAGMA journal_mode")
            if mode != [(asked[1].lower(),)]:
                raise NotInTransaction(statement)

    def _unavailable(self, what: str, wait: Wait, *, busy: bool = False) -> DatabaseUnavailable:
        return DatabaseUnavailable(
            f"The database {self._database.shown_url} {what}",
            url=self._database.shown_url,
            waited_seconds=wait.seconds,
            busy=busy,
        )
