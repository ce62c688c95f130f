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
        """How many of them are known to be committed, or will be by the commit in hand."""
        self.in_doubt = False
        """Whether the statement in hand commits by itself what came before it."""
        self.wrote = False
        """Whether one of them may have changed something."""
        self.in_step = False
        """Whether what is sent is the step's own; else it is Alembic's, as the version row is."""
        self.found: Mark | None = None
        """The mark of an earlier try, which is there whatever becomes of this one."""
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
        self._kept_before = 0

    def begin(self) -> None:
        """A step begins, which may belong to a transaction with the one before it."""
        self.in_step, self.done, self.kept, self.wrote, self._last = True, 0, 0, False, ""
        self._in_vain, self._erased, self.in_doubt = False, None, False
        if self._is_repeated:
            self.standing, self.marked = self.found, True

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
        looks = self.only_looks(statement)
        self.wrote = self.wrote or not looks
        if by_itself or (looks and self.kept == self.done - 1):
            self.kept = self.done

    def at_commit(self) -> None:
        """A commit is next: leave a mark with what it keeps of the step."""
        self._stood = self.standing
        if self.in_step and self.wrote:
            self.keep()
            self.divide()

    def keep(self) -> None:
        """What was done so far is kept by the commit in hand."""
        self._kept_before, self.kept = self.kept, self.done

    def divide(self) -> None:
        """What is next is kept whatever comes later: leave a mark, and say how far it has come."""
        self.divided = True
        if self.at is None:
            return
        mark = replace(self.at, statement=self.done + 1, committed=self.kept)
        if self.standing is not None:
            self.standing = mark
            self.marker.advance(mark)
        elif not self._in_vain:
            if self.marker.leave(mark):
                self.standing, self.marked = mark, True
                return
            self._in_vain = True
            self.remarks.append(
                "What this revision does cannot be marked, so that nobody will know of it if "
                f"it is interrupted: {self.marker.trouble}"
            )

    def insist(self) -> None:
        """Leave the mark again: what was executed may have taken it away, or be kept by now."""
        if self.standing is not None:
            self.standing = replace(self.standing, committed=self.kept)
            self.marker.leave(self.standing)

    def not_committed(self) -> None:
        """The commit, and the mark that came or went with it, was refused."""
        self.standing = self._stood or self._erased
        self.kept = self._kept_before

    def undivided(self) -> None:
        """Nothing of it is kept, but what an earlier try has left."""
        if not self._is_repeated:
            self.erase()
        elif self.standing != self.found and self.found is not None:
            self.standing = self.found
            self.marker.advance(self.found)
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
        at = f"It had executed {self.done} statement{'s' if self.done > 1 else ''}"
        if running is not None:
            at = f"At statement {self.done + 1} of it: {self._database.blanked(running)}"
        if not self.done:
            return f"{at}; none came before it."
        if self.kept == self.done:
            last = f"the last of them: {self._database.blanked(self._last)}"
            if running is None:
                return f"{at}, all of which are kept; {last}."
            those = "the one before it was" if self.done == 1 else f"the {self.done} before it were"
            return f"{at}; {those} done, {last}."
        later = "may be kept or rolled back" if self.in_doubt else "is rolled back"
        if not self.kept:
            return f"{at}; what came before it {later}."
        first = "the first is" if self.kept == 1 else f"the first {self.kept} are"
        return f"{at}; {first} kept, what came later {later}."

    @property
    def _is_repeated(self) -> bool:
        found, at = self.found, self.at
        return (
            found is not None
            and at is not None
            and ((found.revision, found.down) == (at.revision, at.down))
        )

    @property
    def ways_out(self) -> str | None:
        """What to do about a step that is half done."""
        if self.standing is None:
            if not (self._in_vain and self.divided and self.kept):
                return None
            # As nothing marks it, the next start would run it again.
            return "Before the next start undo that by hand, or finish it and stamp the revision."
        return f"`orchestrator status` tells what is there of it. {ways_out(self.standing)}"
