"""New events of journals as they come, until it is interrupted."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from orchestrator.cli.logs import output
from orchestrator.cli.logs.files import STANDARD_INPUT, Journals, unreadable
from orchestrator.cli.logs.story import EVENT_STYLES
from orchestrator.cli.logs.text import print_line
from orchestrator.cli.output import INTERRUPTED
from orchestrator.cli.streams import stdout_lost
from orchestrator.errors import ConfigurationError
from orchestrator.journal.follower import Follower
from orchestrator.journal.reader import Tally, entries
from orchestrator.timeline.entries import Entry
from orchestrator.timeline.wording import printable, process, sentence, short

_POLL_SECONDS: Final = 0.2


def follow(journals: Journals, *, as_json: bool, tally: Tally) -> int:
    """Print each new entry as one line, as long as it can be printed; returns the exit code.

    Standard input, which has to stand alone, is read to its end. Raises `ConfigurationError`
    where a journal cannot be read.
    """
    shown_on = output.console()
    try:
        for entry in _new_entries(journals, tally):
            if as_json:
                print(output.json_line(entry.values), flush=True)
            else:
                _print(shown_on, entry)
            if stdout_lost():
                break
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _new_entries(journals: Journals, tally: Tally) -> Iterator[Entry]:
    if journals.paths == (STANDARD_INPUT,):
        yield from entries(sys.stdin.buffer, tally)
        return
    if STANDARD_INPUT in journals.paths:
        raise ConfigurationError(
            "Standard input cannot be followed together with files.", setting="journal"
        )
    try:
        follower = Follower(map(Path, journals.paths), tally)
        for path in journals.paths:
            if not Path(path).exists():
                output.tell(f"Waiting for {printable(path)}, which is not there yet.")
        try:
            while True:
                yield from follower.poll()
                time.sleep(_POLL_SECONDS)
        finally:
            follower.close()
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise unreadable(str(journals), error) from error


def _print(shown_on: Console, entry: Entry) -> None:
    print_line(
        shown_on,
        Text.assemble(
            (f"{entry.at:%m-%d %H:%M:%S}.{entry.at.microsecond // 1000:03d}  ", "bright_black"),
            f"{short(entry.run_id)}  {process(entry.values)}  ",
            (sentence(entry.name, entry.values), EVENT_STYLES.get(entry.name, "")),
        ),
    )
