"""Remembers what the target is, so that a warm start needs no Alembic.

What is remembered is only ever a shortcut: anything that does not fit exactly means the long
way, and the database is always asked.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from orchestrator.decision.state import KnownTarget, ScriptLocations

_FORMAT: Final = 2
_SIZE_LIMIT: Final = 1_000_000
"""No file of ours comes near it; whatever else has the name is not read into memory."""
_PLAIN: Final = 2  # the last format of marshal's in which equal values are equal bytes
_LIBRARIES: Final = ("alembic", "orchestrator")


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
        self._key = [*key, os.getcwd()]
        self._config_files = config_files

    def load(self) -> KnownTarget | None:
        """The target, if it is remembered for exactly these scripts; else None."""
        try:
            with open(self._path, encoding="utf-8", opener=self._opener) as file:
                values: dict[str, Any] = json.loads(file.read(_SIZE_LIMIT))
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
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            AttributeError,
            ImportError,
            RecursionError,
        ):
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
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def fingerprint(self, locations: ScriptLocations) -> str:
        """A digest of name, size, mtime and ctime of every file that the target comes from.

        Those are the scripts, `env.py`, the config files, and one of Alembic and of this
        library each, in place of their versions: to look those up takes 2 ms.
        """
        script_directory = resolve(locations.script_location)
        directories = [resolve(location) for location in locations.version_locations] or [
            os.path.join(script_directory, "versions")
        ]
        libraries = (os.path.join(resolve(f"{name}:"), "__init__.py") for name in _LIBRARIES)
        env_py = os.path.join(script_directory, "env.py")
        files = [
            (path, _stat(path)) for path in (*libraries, *map(str, self._config_files), env_py)
        ]
        for directory in directories:
            files.extend(_files(directory, locations))
        return hashlib.blake2b(marshal.dumps(files, _PLAIN), digest_size=16).hexdigest()


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


def _stat(path: str) -> Status:
    try:
        return _status(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _status(status: os.stat_result) -> Status:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _files(directory: str, locations: ScriptLocations) -> list[tuple[str, Status]]:
    found: list[tuple[str, Status]] = []
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return found  # Alembic takes it for an empty one, as git does not keep those
    try:
        # By descriptor, since the kernel then need not walk the path for each file.
        with os.scandir(descriptor) as entries:
            for entry in entries:
                path = f"{directory}/{entry.name}"
                if not entry.is_dir():
                    try:
                        found.append((path, _status(entry.stat())))
                    except FileNotFoundError:
                        found.append((path, None))  # a link that leads nowhere
                elif locations.sourceless if entry.name == "__pycache__" else locations.recursive:
                    found.extend(_files(path, locations))
    finally:
        os.close(descriptor)
    return sorted(found)
