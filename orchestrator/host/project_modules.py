"""The modules of a project that are loaded, and where it could find others."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from typing import Any, Final

LIBRARIES: Final = ("alembic", "orchestrator")
INSTALLED: Final = ("site-packages", "dist-packages")
_STANDARD: Final = os.path.join(os.path.dirname(os.__file__), "")
_INIT: Final = "/__init__.py"

Status = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class ProjectModules:
    """Files of modules, and directories in which an import looks; of no library.

    A directory counts by the names in it that can be imported. Not by its times: those of a
    working directory that holds a SQLite file change with each transaction.
    """

    files: list[str]
    directories: list[str]

    @classmethod
    def loaded(cls) -> ProjectModules:
        """Those of this process, as of now."""
        files: set[str] = set()
        directories = _absolute(path for path in sys.path if isinstance(path, str))
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] in LIBRARIES:
                continue
            # Not getattr(): there are modules that import others when they are asked for anything.
            told = getattr(module, "__dict__", {})
            if isinstance(file := told.get("__file__"), str):
                files |= _absolute([file])
            try:
                directories |= _absolute(told.get("__path__", ()))
            except (TypeError, KeyError):  # no package, whatever it says; or its parent is gone
                continue
        directories.update(os.path.dirname(file) for file in files)
        return cls(sorted(files), sorted(directories))

    def told(self) -> list[Any]:
        """What they are now: equal values mean that every import finds what it found."""
        return [
            [(path, status_of(path)) for path in self.files],
            [(path, _importable(path)) for path in self.directories],
        ]

    def changed_since(self, moment_ns: int) -> bool:
        """Whether a file of theirs, loaded or not, is as new as that."""
        beside = (
            f"{directory}/{name}"
            for directory in self.directories
            for name in _importable(directory) or ()
            if not name.endswith("/")
        )
        statuses = map(status_of, (*self.files, *beside))
        return any(status is not None and status[2] >= moment_ns for status in statuses)


def status_of(path: str) -> Status:
    """Size, mtime and ctime; None where there is no such file."""
    try:
        return status(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def status(found: os.stat_result) -> Status:
    """Size, mtime and ctime."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _absolute(paths: Iterable[str]) -> set[str]:
    """Those paths that are of the project."""
    # Most are a library's, and need no second look.
    perhaps = (path for path in paths if not os.path.isabs(path) or _is_of_project(f"{path}/"))
    return {path for path in map(os.path.abspath, perhaps) if _is_of_project(f"{path}/")}


def _is_of_project(path: str) -> bool:
    installed = any(f"/{directory}/" in path for directory in INSTALLED)
    return not installed and not path.startswith(_STANDARD)


def _importable(directory: str) -> list[str] | None:
    """The names of what can be imported from a directory; a package by its `__init__.py`."""
    found: list[str] = []
    suffixes = tuple(all_suffixes())
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                name = entry.name
                if not name.partition(".")[0].isidentifier():
                    continue
                if name.endswith(suffixes):
                    found.append(name)
                elif "." not in name and name != "__pycache__" and entry.is_dir():
                    package = os.path.exists(f"{directory}/{name}{_INIT}")
                    found.append(f"{name}{_INIT if package else '/'}")
    except OSError:  # import takes it for empty, too
        return None
    return sorted(found)
