"""Which journals `orchestrator logs` reads, and how they are opened."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final, cast

from orchestrator.cli.logs.output import tell_unreadable
from orchestrator.cli.making import make_orchestrator
from orchestrator.cli.options import Where
from orchestrator.errors import ConfigurationError
from orchestrator.journal.generations import older
from orchestrator.journal.reader import Tally

STANDARD_INPUT: Final = "-"


@dataclass(frozen=True, slots=True)
class Journals:
    """Names of journal files. `named`: by the user, so that each of them has to be there."""

    paths: tuple[str, ...]
    named: bool

    def __str__(self) -> str:
        return ", ".join(
            "standard input" if path == STANDARD_INPUT else path for path in self.paths
        )


def journal_paths(named: Sequence[str], where: Where) -> Journals:
    """The journals that were named, else the one that the settings lead to.

    Raises `ConfigurationError` where the settings cannot be used, or turn the journal off.
    """
    if named:
        return Journals(tuple(named), named=True)
    path = make_orchestrator(where).resources.journal_path
    if path is None:
        raise ConfigurationError(
            'The journal is turned off (`journal = "off"`). Name one with --journal FILE.',
            setting="journal",
        )
    return Journals((str(path),), named=False)


@dataclass(frozen=True, slots=True)
class Reading:
    """Journals that are open, with their older generations, and what was met in them."""

    journals: Journals
    files: Sequence[BinaryIO]
    tally: Tally


@contextmanager
def reading(journals: Journals) -> Iterator[Reading]:
    """The journals, open; at the end it is told how many lines were unreadable.

    Each is read after its older generation, where there is one; each file once. What cannot be
    read twice (standard input, a pipe) is copied to a temporary file first. The one that nobody
    named may be missing. Raises `ConfigurationError` for one that is named and missing, and for
    any that cannot be read, also where reading fails half-way.
    """
    try:
        with ExitStack() as stack:
            source = _opened(journals, stack)
            yield source
            tell_unreadable(source.tally)
    except OSError as error:
        raise unreadable(str(journals), error) from error


def unreadable(path: str, error: OSError | ValueError) -> ConfigurationError:
    """What to say of a journal that cannot be read."""
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ConfigurationError(
        f"The journal {path} cannot be read: {reason}. Name another with --journal FILE.",
        setting="journal",
    )


def _opened(journals: Journals, stack: ExitStack) -> Reading:
    paths: dict[str, None] = {}
    files: list[BinaryIO] = []
    seen: set[tuple[int, int]] = set()
    for path in journals.paths:
        if path == STANDARD_INPUT:
            paths[path] = None
            files.append(_copied(sys.stdin.buffer, stack))
            continue
        current = _open(path, stack, may_be_missing=not journals.named)
        # In this order a file that is rotated in between is met twice, and not missed.
        previous = older(Path(path))
        before = _open(str(previous), stack, may_be_missing=True) if previous.is_file() else None
        if before is not None:
            paths[str(previous)] = None
        paths[path] = None
        for file in (before, current):
            if file is None:
                continue
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                files.append(file if file.seekable() else _copied(file, stack))
    return Reading(replace(journals, paths=tuple(paths)), files, Tally())


def _open(path: str, stack: ExitStack, *, may_be_missing: bool) -> BinaryIO | None:
    try:
        return stack.enter_context(Path(path).open("rb"))
    except FileNotFoundError as error:
        if may_be_missing:
            return None
        raise unreadable(path, error) from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise unreadable(path, error) from error


def _copied(file: BinaryIO, stack: ExitStack) -> BinaryIO:
    temporary = tempfile.TemporaryFile()  # noqa: SIM115 - the stack closes it
    copy = cast("BinaryIO", stack.enter_context(temporary))
    shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy
