"""Remembers what the target is, so that a warm start needs no Alembic.

What is remembered is only ever a shortcut: anything that does not fit exactly means the long
way, and the database is always asked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from orchestrator.state import KnownTarget, ScriptLocations

_FORMAT: Final = 1


class HeadsFile:
    """The file in which a target is remembered.

    `key` is everything besides the scripts that the target depends on: the settings, the
    database. `config_files` are those that the scripts' locations come from.
    """

    def __init__(
        self,
        path: Path,
        opener: Callable[[str, int], int],
        *,
        key: tuple[str, ...],
        config_files: tuple[Path, ...],
    ) -> None:
        self._path = path
        self._opener = opener
        self._key = [*key, os.getcwd(), version("alembic"), version("migration-orchestrator")]
        self._config_files = config_files

    def load(self) -> KnownTarget | None:
        """The target, if it is remembered for exactly these scripts; else None."""
        try:
            with open(self._path, encoding="utf-8", opener=self._opener) as file:
                values: dict[str, Any] = json.load(file)
            if values["format"] != _FORMAT or values["key"] != self._key:
                return None
            locations = ScriptLocations(
                **{
                    **values["locations"],
                    "version_locations": tuple(values["locations"]["version_locations"]),
                }
            )
            if values["fingerprint"] != self.fingerprint(locations):
                return None
            known = values["known"]
            return KnownTarget(**{**known, "versions": tuple(known["versions"])})
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ImportError):
            return None

    def store(self, known: KnownTarget, locations: ScriptLocations, fingerprint: str) -> None:
        """Remember the target of scripts that had this fingerprint when they were loaded.

        Only a shortcut is lost where the file cannot be written.
        """
        content = {
            "format": _FORMAT,
            "key": self._key,
            "locations": asdict(locations),
            "fingerprint": fingerprint,
            "known": asdict(known),
        }
        temporary = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        try:
            temporary.unlink(missing_ok=True)
            with open(temporary, "x", encoding="utf-8", opener=self._opener) as file:
                json.dump(content, file)
            os.replace(temporary, self._path)
        except OSError:
            temporary.unlink(missing_ok=True)

    def fingerprint(self, locations: ScriptLocations) -> str:
        """A digest of name, size, mtime and ctime of every script, `env.py` and the config."""
        digest = hashlib.blake2b(digest_size=16)
        script_directory = resolve(locations.script_location)
        directories = [resolve(location) for location in locations.version_locations] or [
            os.path.join(script_directory, "versions")
        ]
        config_files = (str(path) for path in self._config_files)
        for path in (*config_files, os.path.join(script_directory, "env.py")):
            digest.update(_told(path, _stat(path)))
        for directory in directories:
            for path, status in sorted(_files(directory, recursive=locations.recursive)):
                digest.update(_told(path, status))
        return digest.hexdigest()


def resolve(location: str) -> str:
    """The absolute path of a script location: a path, or `package:directory`."""
    if os.path.isabs(location) or ":" not in location:
        return os.path.abspath(location)
    package, *parts = location.split(":")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(f"{package} is not a package")
    return os.path.join(os.path.abspath(next(iter(spec.submodule_search_locations))), *parts)


Status = tuple[int, int, int] | None


def _told(path: str, status: Status) -> bytes:
    return f"{path}\0{status}\n".encode(errors="surrogateescape")


def _stat(path: str) -> Status:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _files(directory: str, *, recursive: bool) -> Iterator[tuple[str, Status]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if not entry.is_dir():
                yield entry.path, _stat(entry.path)
            elif entry.name == "__pycache__":
                # Bytecode is a script where the config says `sourceless`; its files are told
                # by name alone, since Python writes them whenever it reads the sources.
                yield from (
                    (child.path, None)
                    for child in os.scandir(entry.path)
                    if not _has_source(directory, child.name)
                )
            elif recursive:
                yield from _files(entry.path, recursive=True)


def _has_source(directory: str, name: str) -> bool:
    return os.path.exists(os.path.join(directory, f"{name.partition('.')[0]}.py"))
