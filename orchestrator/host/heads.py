"""Remembers what the target is, so that a warm start needs no Alembic.

What is remembered is only ever a shortcut: anything that does not fit exactly means the long
way, and the database is always asked. What `env.py` decides may come of anything, so it is
remembered with all that it can have been told by: files, modules, the environment.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import marshal
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from orchestrator.databases.secrets import without_secret
from orchestrator.decision.state import KnownTarget, ScriptLocations
from orchestrator.host.directory import replace_shared
from orchestrator.host.project_modules import (
    INSTALLED,
    LIBRARIES,
    ProjectModules,
    Status,
    status,
    status_of,
)
from orchestrator.settings import Settings

_FORMAT: Final = 4
_SIZE_LIMIT: Final = 1_000_000
"""No file of ours comes near it; whatever else has the name is not read into memory."""
_KEPT_SECONDS: Final = 90 * 24 * 3600
_PLAIN: Final = 2  # the last format of marshal's in which equal values are equal bytes
_OF_EACH_PROCESS: Final = frozenset(
    {
        *("PORT", "DYNO", "POD_NAME", "POD_IP"),
        *("_", "OLDPWD", "PWD", "SHLVL", "HOSTNAME", "PYTEST_CURRENT_TEST"),
        *("COLUMNS", "LINES", "TERM", "WINDOWID", "STY", "TMUX", "TMUX_PANE", "GPG_TTY"),
        *("SSH_AUTH_SOCK", "SSH_CLIENT", "SSH_CONNECTION", "SSH_TTY", "XDG_SESSION_ID"),
        *("INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID", "NOTIFY_SOCKET"),
        *("LISTEN_FDS", "LISTEN_PID", "WATCHDOG_PID", "SUPERVISOR_PROCESS_NAME"),
        # Those settings that a target depends on are part of the key.
        *(f"ORCHESTRATOR_{name.upper()}" for name in Settings.model_fields),
    }
)
"""Variables that differ from process to process, and that no `env.py` goes by."""


class HeadsFile:
    """The file in which a target is remembered, as seen by one run.

    `key` is everything besides the scripts that the target depends on: the settings, the
    database. None, and nothing is remembered. `config_files` are those that the scripts'
    locations come from. The environment counts as it is when this is made.
    """

    def __init__(
        self,
        path: Path,
        opener: Callable[[str, int], int],
        *,
        key: tuple[str, ...] | None,
        config_files: tuple[Path, ...],
    ) -> None:
        self._path = path
        self._opener = opener
        # Not as it is: an argument for `env.py` is nobody else's business.
        self._key = None if key is None else _digest([*key, os.getcwd()])
        self._config_files = config_files
        self._environment = _environment()
        self._made_ns = time.time_ns()

    def load(self) -> KnownTarget | None:
        """The target, if it is remembered for exactly these scripts; else None."""
        if self._key is None:
            return None
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
            scripts, digest = self._scripts(locations)
            modules = ProjectModules(**values["of"])
            if values["fingerprint"] != digest or values["modules"] != _digest(modules.told()):
                return None
            known = KnownTarget(
                **{**values["known"], "versions": tuple(values["known"]["versions"])}
            )
            return known if _are_named(known.versions, scripts) else None
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

        With the modules of the project that are loaded now; not where one of them, or what could
        be imported beside it, has changed since this was made: nobody can tell what was loaded.
        Only a shortcut is lost where the file cannot be written.
        """
        modules = ProjectModules.loaded()
        if self._key is None or modules.changed_since(self._made_ns):
            return
        content = {
            "format": _FORMAT,
            "key": self._key,
            "locations": asdict(locations),
            "fingerprint": fingerprint,
            "of": asdict(modules),
            "modules": _digest(modules.told()),
            "known": asdict(known),
        }
        with suppress(OSError):
            replace_shared(self._path, json.dumps(content))
            self._forget_old()

    def _forget_old(self) -> None:
        """Take away what other directories of scripts remember, as releases leave them behind."""
        for other in self._path.parent.glob("heads-*.json"):
            if time.time() - other.lstat().st_mtime > _KEPT_SECONDS:
                other.unlink()

    def fingerprint(self, locations: ScriptLocations) -> str:
        """A digest of all that the target comes from, but for the project's modules.

        That is name, size, mtime and ctime of the scripts, `env.py`, the config files, `.env`
        in the working directory, and one file of Alembic and of this library each, in place of
        their versions: to look those up takes 2 ms. The directories of installed packages stand
        for what is in them. And the environment's variables.
        """
        return self._scripts(locations)[1]

    def _scripts(self, locations: ScriptLocations) -> tuple[list[str], str]:
        """The names of the script files, and the digest."""
        script_directory = resolve(locations.script_location)
        directories = [resolve(location) for location in locations.version_locations] or [
            os.path.join(script_directory, "versions")
        ]
        scripts = [file for directory in directories for file in _files(directory, locations)]
        libraries = (os.path.join(resolve(f"{name}:"), "__init__.py") for name in LIBRARIES)
        installed = (path for path in sys.path if path.endswith(INSTALLED))
        config_files = map(str, self._config_files)
        others = (*libraries, *installed, *config_files, os.path.abspath(".env"))
        files = [(path, status_of(path)) for path in others]
        files.extend(_env_py(script_directory))
        return [path for path, _ in scripts], _digest((files, scripts, self._environment))


def _environment() -> list[tuple[str, str]]:
    """The variables, without what is secret: who reads a digest could try until one fits."""
    return sorted(
        (name, without_secret(name, value))
        for name, value in os.environ.items()
        if name not in _OF_EACH_PROCESS
    )


def _env_py(directory: str) -> list[tuple[str, Status]]:
    """Its status; where there is no source, of each bytecode that Alembic may run instead."""
    source = os.path.join(directory, "env.py")
    bytecode = (importlib.util.cache_from_source(source), f"{source}c")
    found = [(source, status_of(source))]
    return found if found[0][1] else found + [(path, status_of(path)) for path in bytecode]


def _are_named(versions: Sequence[str], scripts: list[str]) -> bool:
    """Whether there are such revisions, as far as the names of the files tell."""
    names = [os.path.basename(path) for path in scripts]
    return bool(versions) and all(any(one in name for name in names) for one in versions)


def _digest(told: Any) -> str:
    return hashlib.blake2b(marshal.dumps(told, _PLAIN), digest_size=16).hexdigest()


def resolve(location: str) -> str:
    """The absolute path of a script location: a path, or `package:directory`."""
    if os.path.isabs(location) or ":" not in location:
        return os.path.abspath(location)
    package, *parts = location.split(":")
    locations = _package_path(package)
    if not locations:
        raise ImportError(f"{package} is not a package")
    return os.path.join(os.path.abspath(locations[0]), *parts)


def _package_path(package: str) -> list[str]:
    """Where the parts of a package lie; empty where it is none.

    None of the packages above it is imported, as `importlib.util.find_spec` would: that may take
    longer than the whole warm start.
    """
    name = ""
    path: Sequence[str] | None = None
    for part in package.split("."):
        name = f"{name}.{part}" if name else part
        if name in sys.modules:
            path = getattr(sys.modules[name], "__path__", None)
        else:
            try:
                path = _path_of(name, path)
            except KeyError:  # one without an `__init__.py` asks the module above it
                spec = importlib.util.find_spec(name)
                path = spec.submodule_search_locations if spec is not None else None
        if not path:
            return []
    return list(path or ())


def _path_of(name: str, path: Sequence[str] | None) -> Sequence[str] | None:
    finders = (finder for finder in sys.meta_path if hasattr(finder, "find_spec"))
    spec = next(filter(None, (finder.find_spec(name, path) for finder in finders)), None)
    return list(spec.submodule_search_locations or ()) if spec is not None else None


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
                        found.append((path, status(entry.stat())))
                    except FileNotFoundError:
                        found.append((path, None))  # a link that leads nowhere
                elif locations.sourceless if entry.name == "__pycache__" else locations.recursive:
                    found.extend(_files(path, locations))
    finally:
        os.close(descriptor)
    return sorted(found)
