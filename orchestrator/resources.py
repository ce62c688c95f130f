"""What a run works with, made from the settings: nothing is opened before it is needed."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator import alembic_config
from orchestrator.database_url import identity, parse, redact, sqlite_file
from orchestrator.errors import ConfigurationError
from orchestrator.heads import HeadsFile
from orchestrator.journal import Journal, Origin
from orchestrator.locks.file import FileLock
from orchestrator.record import RecordFile
from orchestrator.settings import Settings
from orchestrator.state_directory import StateDirectory, open_shared

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from orchestrator.revisions.scripts import Scripts


@dataclass(frozen=True)
class Resources:
    """Everything outside that one database's runs touch."""

    settings: Settings

    @cached_property
    def url(self) -> URL:
        """The database. Raises `ConfigurationError` where none is named or it cannot be used."""
        url = (
            self.settings.database_url
            or os.environ.get("DATABASE_URL")
            or alembic_config.option(self.config_files, "sqlalchemy.url")
        )
        if not url:
            raise ConfigurationError(
                "No database URL is known. Set `database_url` (or --database-url, "
                "ORCHESTRATOR_DATABASE_URL, DATABASE_URL), such as sqlite:///var/app.db.",
                setting="database_url",
            )
        return parse(url)

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
        return FileLock(self.directory.lock, open_shared)

    def record(self) -> RecordFile:
        """`run.json`."""
        return RecordFile(self.directory.record, open_shared)

    def journal(self) -> Journal | None:
        """The journal, opened; None where it is off. Raises `ConfigurationError`."""
        path = self.journal_path
        if path is None:
            return None
        origin = Origin(
            host=socket.gethostname(),
            pid=os.getpid(),
            database=self.shown_url,
            release=self.settings.release,
        )
        return Journal(path, origin, opener=open_shared)

    def heads(self) -> HeadsFile:
        """`heads.json`."""
        key = (identity(self.url), self.settings.script_location or "", self.settings.target)
        return HeadsFile(self.directory.heads, open_shared, key=key, config_files=self.config_files)

    def scripts(self) -> Scripts:
        """Load the scripts; imports Alembic. Raises `ConfigurationError`."""
        from orchestrator.revisions import scripts  # a warm start needs no Alembic

        return scripts.load(
            self.settings.script_location, self.config_files, self.heads().fingerprint
        )
