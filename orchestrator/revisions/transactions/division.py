"""What of a step is committed before the rest of it: counted, marked, and told."""

from __future__ import annotations

import re
from dataclasses import replace

from orchestrator.databases.base import Database
from orchestrator.decision.refusal import ways_out
from orchestrator.results import Mark
from orchestrator.revisions.transactions.marker import Marker


class Division:
    """Whether the step in hand is divided, where it is, and the mark that says so.

    `marker` leaves that, and `looks` matches the statements that are taken to change nothing.
    """

    def __init__(self, database: Database, marker: Marker, looks: re.Pattern[str]) -> None:
        self.at: Mark | None = None
        """What would be left if the step in hand were interrupted; None for a stamp."""
        self.divided = False
        """Whether the step has, or may have, committed a part of its work."""
        self.done = 0
        """How many of its statements have been executed."""
        self.kept = 0
        """How many of them are committed, or may be."""
        self.wrote = False
        """Whether one of them may have changed something."""
        self.in_step = False
        """Whether what is sent is the step's own; else it is Alembic's, as the version row is."""
        self.standing: Mark | None = None
        """The mark that has been left, and tells of what has not ended."""
        self.marked = False
        """Whether one was left, of this step or of one before it."""
        self.remarks: list[str] = []
        """What somebody should know of the step in hand."""
        self.marker = marker
        self._database = database
        self._looks = looks
        self._last = ""
        self._in_vain = False
        self._erased: Mark | None = None
        self._stood: Mark | None = None

    def begin(self) -> None:
        """A step begins, which may belong to a transaction with the one before it."""
        self.in_step, self.done, self.kept, self.wrote, self._last = True, 0, 0, False, ""
        self._in_vain, self._erased = False, None

    def end(self) -> None:
        """It has done what it does."""
        self.in_step = False

    def only_looks(self, statement: str) -> bool:
        """Whether it is taken to change nothing."""
        return self._looks.match(statement) is not None

    def executed(self, statement: str, *, by_itself: bool) -> None:
        """A statement has ended well, and is committed `by_itself`, or with what comes."""
        if not self.in_step:
            return
        self.done += 1
        self._last = statement
        self.wrote = self.wrote or not self.only_looks(statement)
        if by_itself:
            self.kept = self.done

    def at_commit(self) -> None:
        """A commit is next: leave a mark with what it keeps of the step."""
        self._stood = self.standing
        if self.in_step and self.wrote:
            self.kept = self.done
            self.divide()

    def divide(self) -> None:
        """What is next is kept whatever comes later: leave a mark, and say how far it has come."""
        self.divided = True
        if self.at is None:
            return
        statement = self.done + 1
        if self.standing is not None:
            self.marker.advance(statement)
        elif not self._in_vain:
            mark = replace(self.at, statement=statement)
            if self.marker.leave(mark):
                self.standing, self.marked = mark, True
                return
            self._in_vain = True
            self.remarks.append(
                "What this revision does cannot be marked, so that nobody will know of it if "
                f"it is interrupted: {self.marker.trouble}"
            )

    def not_committed(self) -> None:
        """The commit, and the mark that came or went with it, was refused."""
        self.standing = self._stood or self._erased

    def undivided(self) -> None:
        """Nothing of it is kept."""
        self.erase()
        self.divided = False

    def erase(self) -> None:
        """Take the mark away: what it tells of has ended, or nothing of it is kept."""
        if self.standing is not None:
            self._erased, self.standing = self.standing, None
            self.marker.erase()

    def account(self, running: str | None) -> str | None:
        """How far a divided step has come; a sentence. `running` is the statement in hand."""
        if not self.divided or not (self.done or running):
            return None
        at = f"It had executed {self.done} statements"
        if running is not None:
            at = f"At statement {self.done + 1} of it: {self._database.blanked(running)}"
        if self.kept < self.done:
            return f"{at}; the first {self.kept} are committed, what came later is rolled back."
        if not self.done:
            return f"{at}; none came before it."
        if running is None:
            return f"All {self.done} statements of it were done."
        those = "the one" if self.done == 1 else f"the {self.done}"
        were = "was" if self.done == 1 else "were"
        last = self._database.blanked(self._last)
        return f"{at}; {those} before it {were} done, the last of them: {last}."

    @property
    def ways_out(self) -> str | None:
        """What to do about a step that is half done."""
        return ways_out(self.standing) if self.standing is not None else None
