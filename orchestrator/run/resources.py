"""What a run works with, made from the settings: nothing is opened before it is needed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orchestrator.databases import database_of
from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience
from orchestrator.databases.quoting import without_secrets
from orchestrator.databases.secrets import NO_SECRETS, Secrets
from orchestrator.databases.url import parse, secrets_of
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.events import Event, LockWaiting
from orchestrator.host.directory import StateDirectory, open_shared
from orchestrator.host.heads import HeadsFile, resolve
from orchestrator.host.record import RecordFile
from orchestrator.journal.writer import Journal, Origin
from orchestrator.results import Holder
from orchestrator.revisions import config as alembic_config
from orchestrator.revisions.config import AlembicProject
from orchestrator.run.comparison import settings_digest, told_arguments, told_attributes
from orchestrator.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

    from orchestrator.decision.state import ScriptLocations
    from orchestrator.locks.base import Lock
    from orchestrator.locks.file import FileLock
    from orchestrator.revisions.environment_context import PassOptions
    from orchestrator.revisions.scripts import Scripts


E = TypeVar("E", bound=OrchestratorError)


@dataclass(frozen=True)
class Resources:
    """Everything outside that one database's runs touch.

    `attributes` are for `env.py`, as its `config.attributes`.
    """

    settings: Settings
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def database(self) -> Database:
        """The database; where none is named, the one that `env.py` connects to of itself.

        Raises `ConfigurationError` where there is none, or it cannot be used.
        """
        database = self._find_database()
        database.one_node = self.settings.galera == "one-node"
        return database

    def _find_database(self) -> Database:
        if self._written_url:
            return database_of(self._written_url)
        from orchestrator.revisions.connections import url_of_env_py  # imports Alembic
        from orchestrator.revisions.environment_context import Arguments

        arguments = Arguments(target=self.settings.target, **self._arguments)
        return database_of(url_of_env_py(self.project, arguments))

    @property
    def _known_database(self) -> Database | None:
        """The database, if it has been asked for already; asks nobody."""
        return self.__dict__.get("database")

    @property
    def url(self) -> URL:
        """The database's URL, as it was written. Raises `ConfigurationError` as `database` does."""
        return self.database.url

    @property
    def names_database(self) -> bool:
        """Whether the URL is known without running `env.py`."""
        return bool(self._written_url)

    @cached_property
    def _written_url(self) -> str | None:
        return (
            self.settings.direct_url
            or self.settings.database_url
            or os.environ.get("DATABASE_URL")
            or alembic_config.url(self.project.config_files, self.project.section)
        )

    @property
    def secrets(self) -> Secrets:
        """What must not be told, as far as it is known; asks nobody: all may have failed."""
        known = self._known_database
        if known is not None:
            return known.secrets
        try:
            return secrets_of(parse(self._written_url)) if self._written_url else NO_SECRETS
        except ConfigurationError:  # no URL can be read
            return NO_SECRETS

    def without_secrets(self, error: E) -> E:
        """The error, and what led to it, as it may leave the library."""
        return without_secrets(error, self.secrets)

    def hide(self, text: str) -> str:
        """A traceback without secrets."""
        return self.secrets.hide(text)

    @cached_property
    def project(self) -> AlembicProject:
        """What names the scripts. Raises `ConfigurationError` where the config does not exist."""
        settings = self.settings
        return AlembicProject(
            alembic_config.config_files(settings.alembic_config),
            settings.script_location,
            settings.alembic_section,
            settings.version_locations,
        )

    @cached_property
    def directory(self) -> StateDirectory:
        """The state directory, which may not exist yet."""
        if self.settings.state_dir is not None:
            return StateDirectory(self.settings.state_dir.absolute())
        if self.database.file is None:
            return StateDirectory.of_user(self.database.identity)
        return StateDirectory.beside(self.database.file)

    @property
    def journal_path(self) -> Path | None:
        """Where the journal is; None where it is off."""
        if self.settings.journal == "off":
            return None
        return self.settings.journal or self.directory.journal

    @property
    def migrating(self) -> str:
        """The command that migrates the database, for advice."""
        only = "" if self.settings.mode == "migrate" else " --mode migrate"
        return f"orchestrator run{only}"

    def prepare(self) -> str | None:
        """Make the directories; says what somebody should know of it.

        Raises `ConfigurationError` where they cannot be used, or where there are no scripts: a
        mistake in a path leaves nothing behind.
        """
        if not os.path.exists(self.directory.path) and not self._has_scripts:
            self.fingerprint()  # raises, with the reason
        made = self.database.prepare()
        self.directory.prepare()
        return made

    @property
    def _has_scripts(self) -> bool:
        """Whether the script location is a directory, as far as that is known without Alembic."""
        project = self.project
        location = project.script_location or alembic_config.option(
            project.config_files, "script_location", project.section
        )
        try:
            return location is not None and os.path.isdir(resolve(location))
        except (ImportError, ValueError):
            return False

    def holder(self, run_id: str, command: str) -> Holder:
        """This process, as it tells of itself to those who wait."""
        return Holder(
            run_id=run_id,
            host=socket.gethostname(),
            pid=os.getpid(),
            command=command,
            since=datetime.now(UTC),
            release=self.settings.release,
        )

    def lock(self) -> FileLock:
        """A lock that is not held."""
        from orchestrator.locks.file import FileLock  # a warm start takes none

        return FileLock(self.directory.lock, open_shared)

    def locks(self, holder: Callable[[], Holder], warn: Callable[[str], object]) -> list[Lock]:
        """What is held for the work, in the order in which it is taken; not held yet.

        The file lock first, so that the database is asked by one contender a host. `warn` is told
        that a lock of the database's was lost while it was held, and the like.
        """
        of_database = self.database.lock(holder, warn)
        return [self.lock(), *([of_database] if of_database is not None else [])]

    def record(self) -> RecordFile:
        """`run.json`."""
        return RecordFile(self.directory.record)

    def journal(self) -> Journal | None:
        """The journal, opened; None where it is off. Raises `ConfigurationError`."""
        path = self.journal_path
        if path is None:
            return None
        return Journal(
            path,
            self.origin(),
            opener=open_shared,
            max_bytes=self.settings.journal_max_bytes,
            rotate=_rotate,
        )

    def origin(self) -> Origin:
        """This process and its database, as each line of the journal and of the log names them."""
        database = self._known_database
        return Origin(
            host=socket.gethostname(),
            pid=os.getpid(),
            database=database.shown_url if database is not None else "",
            release=self.settings.release,
        )

    def heads(self) -> HeadsFile:
        """What is remembered of the target, as seen by one run."""
        settings, project = self.settings, self.project
        key = (
            self.database.identity,
            *self.database.view,
            *project.given,
            settings.target,
            settings.tag or "",
            *told_arguments((*settings.x_args, *(self._told_attributes or ()))),
        )
        tellable = self._told_attributes is not None
        return HeadsFile(
            self.directory.heads(
                "\0".join((os.getcwd(), *map(str, project.config_files), *project.given))
            ),
            open_shared,
            key=key if settings.warm_start == "on" and tellable else None,
            config_files=project.config_files,
        )

    def scripts(
        self, heads: HeadsFile | None = None, found: Callable[[str], None] = lambda _: None
    ) -> Scripts:
        """Load the scripts; imports Alembic. Raises `ConfigurationError`.

        `found` is told their fingerprint before any of them is executed.
        """
        from orchestrator.revisions import scripts  # a warm start needs no Alembic

        take = (heads or self.heads()).fingerprint

        def fingerprint(locations: ScriptLocations) -> str:
            taken = take(locations)
            found(taken)
            return taken

        return scripts.load(self.project, fingerprint, secrets=self.database.secrets)

    def fingerprint(self) -> str:
        """The fingerprint of the scripts, none of which is executed; imports Alembic.

        Raises `ConfigurationError` where they are not found.
        """
        # Who need not compare needs no Alembic.
        from orchestrator.revisions.script_directory import fingerprint_of

        return fingerprint_of(self.project, self.heads().fingerprint)

    @cached_property
    def settings_digest(self) -> str | None:
        """What the settings are compared with another run's by; None where they cannot be."""
        attributes = self._told_attributes
        if attributes is None:
            return None
        return settings_digest(self.settings, self.database, attributes)

    @property
    def _told_attributes(self) -> tuple[str, ...] | None:
        return told_attributes(self.attributes)

    def patience(
        self,
        interrupted: Callable[[], None] = lambda: None,
        emit: Callable[[Event], object] = lambda _: None,
        *,
        busy: bool = True,
    ) -> Patience:
        """How a database that is `busy`, or does not answer, is waited for, and told of."""

        def tell(waited_seconds: float, reason: str) -> None:
            emit(
                LockWaiting(
                    lock="database", holder=None, waited_seconds=waited_seconds, reason=reason
                )
            )

        seconds = self.settings.connect_timeout_seconds
        return Patience(timeout_seconds=seconds, interrupted=interrupted, tell=tell, busy=busy)

    def pass_options(self, target: str, **more: Any) -> PassOptions:
        """How `env.py` is run to reach a target; imports Alembic."""
        from orchestrator.revisions.environment_context import PassOptions

        return PassOptions(
            database=self.database,
            target=target,
            **{"patience": self.patience(), **self._arguments, **more},
        )

    @property
    def _arguments(self) -> dict[str, Any]:
        """What the `alembic` command would give to `env.py`."""
        return {
            "x_arguments": self.settings.x_args,
            "tag": self.settings.tag,
            "attributes": self.attributes,
        }


def _rotate(path: Path, descriptor: int, max_bytes: int) -> bool:
    from orchestrator.host.rotation import rotate  # a warm start seldom rotates

    return rotate(path, descriptor, max_bytes)
