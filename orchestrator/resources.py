"""What a run works with, made from the settings: nothing is opened before it is needed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import alembic_config
from orchestrator.database_url import hide, identity, parse, redact, sqlite_file
from orchestrator.errors import ConfigurationError
from orchestrator.heads import HeadsFile
from orchestrator.record import RecordFile
from orchestrator.settings import Settings
from orchestrator.state_directory import StateDirectory, open_shared

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from orchestrator.journal import Journal
    from orchestrator.locks.file import FileLock
    from orchestrator.revisions.scripts import Scripts


@dataclass(frozen=True)
class Resources:
    """Everything outside that one database's runs touch."""

    settings: Settings

    @cached_property
    def url(self) -> URL:
        """The database; where none is named, the one that `env.py` connects to of itself.

        Raises `ConfigurationError` where there is none, or it cannot be used.
        """
        return parse(self._written_url) if self._written_url else self._own_url()

    @property
    def names_database(self) -> bool:
        """Whether the URL is known without running `env.py`."""
        return bool(self._written_url)

    def _own_url(self) -> URL:
        from orchestrator.revisions import scripts  # imports Alembic
        from orchestrator.revisions.connections import own_url
        from orchestrator.revisions.context import Arguments

        try:
            loaded = scripts.load(self.settings.script_location, self.config_files)
        except ConfigurationError as error:
            raise ConfigurationError(
                "No database URL is known. Set `database_url` (or --database-url, "
                "ORCHESTRATOR_DATABASE_URL, DATABASE_URL), such as sqlite:///var/app.db. "
                f"Nor can env.py be asked for one: {error}",
                setting="database_url",
            ) from error
        arguments = Arguments(
            target=self.settings.target, x_arguments=self.settings.x_args, tag=self.settings.tag
        )
        found = own_url(loaded, arguments)
        return parse(found.render_as_string(hide_password=False))

    @cached_property
    def _written_url(self) -> str | None:
        return (
            self.settings.database_url
            or os.environ.get("DATABASE_URL")
            or alembic_config.url(self.config_files)
        )

    def hide(self, text: str) -> str:
        """The text without the secrets of the database's URL, however they are escaped."""
        try:
            # What env.py told is asked for only if it is known: this runs when all has failed.
            return hide(text, self._written_url or self.__dict__.get("url", ""))
        except ConfigurationError:
            return text  # no URL can be read

    @cached_property
    def shown_url(self) -> str:
        """The URL without its secrets."""
        return redact(self.url)

    @cached_property
    def config_files(self) -> tuple[Path, ...]:
        """The files of the Alembic config, whether they exist or not."""
        return alembic_config.config_files(self.settings.alembic_config)

    @cached_property
    def directory(self) -> StateDirectory:
        """The state directory, which may not exist yet."""
        if self.settings.state_dir is not None:
            return StateDirectory(self.settings.state_dir.absolute())
        file = sqlite_file(self.url)
        if file is None:
            raise ConfigurationError("Only SQLite files are supported so far.")
        return StateDirectory.beside(file)

    @property
    def journal_path(self) -> Path | None:
        """Where the journal is; None where it is off."""
        if self.settings.journal == "off":
            return None
        return self.settings.journal or self.directory.journal

    def prepare(self) -> None:
        """Make the directories. Raises `ConfigurationError` where they cannot be used."""
        file = sqlite_file(self.url)
        try:
            if file is not None:
                os.makedirs(os.path.dirname(os.path.realpath(file)), exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"The directory of the database {self.shown_url} cannot be made: "
                f"{error.strerror}. Nothing was changed.",
                setting="database_url",
            ) from error
        self.directory.prepare()

    def lock(self) -> FileLock:
        """A lock that is not held."""
        from orchestrator.locks.file import FileLock  # a warm start takes none

        return FileLock(self.directory.lock, open_shared)

    def record(self) -> RecordFile:
        """`run.json`."""
        return RecordFile(self.directory.record, open_shared)

    def journal(self) -> Journal | None:
        """The journal, opened; None where it is off. Raises `ConfigurationError`."""
        path = self.journal_path
        if path is None:
            return None
        from orchestrator.journal import Journal, Origin  # structlog is half of all imports

        origin = Origin(
            host=socket.gethostname(),
            pid=os.getpid(),
            database=self.shown_url,
            release=self.settings.release,
        )
        return Journal(path, origin, opener=open_shared)

    def heads(self) -> HeadsFile:
        """`heads.json`."""
        settings = self.settings
        key = (
            identity(self.url),
            settings.script_location or "",
            settings.target,
            settings.tag or "",
            *settings.x_args,
        )
        return HeadsFile(self.directory.heads, open_shared, key=key, config_files=self.config_files)

    def scripts(self) -> Scripts:
        """Load the scripts; imports Alembic. Raises `ConfigurationError`."""
        from orchestrator.revisions import scripts  # a warm start needs no Alembic

        return scripts.load(
            self.settings.script_location, self.config_files, self.heads().fingerprint
        )
