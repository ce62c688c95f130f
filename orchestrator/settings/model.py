"""The settings, their defaults and what they mean."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypedDict, Unpack

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.engine import URL

from orchestrator.settings.explanation import explain
from orchestrator.settings.variables import parsed, variables


def _seconds(value: float) -> float:
    if math.isnan(value) or value < 0:
        raise ValueError("must be 0 or more seconds, or inf")
    return value


def _bytes(value: int) -> int:
    if value < 0:
        raise ValueError("must be 0 or more bytes")
    return value


def _absolute_target(value: str) -> str:
    if value in ("", "base") or value.startswith(("+", "-")) or "+" in value:
        raise ValueError(
            "must be heads, head, a revision or a label; what is relative is for a single "
            "command, such as `orchestrator upgrade +1`"
        )
    return value


def _section(value: str) -> str:
    if value in ("", "DEFAULT"):
        raise ValueError("must be the name of a section of the ini file, other than DEFAULT")
    return value


def _nameable(value: Path) -> Path:
    if "\0" in str(value):
        raise ValueError("must not hold a null character, which no file has in its name")
    return value


def _text_of_path(value: object) -> object:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _text_of_url(value: object) -> object:
    return value.render_as_string(hide_password=False) if isinstance(value, URL) else value


_WITHOUT_EFFECT: Final = {
    "accepted_differences",
    "app",
    "connect_timeout_seconds",
    "ddl_lock_timeout_seconds",
    "ddl_retry_seconds",
    "journal",
    "journal_max_bytes",
    "lock_timeout_seconds",
    "log",
    "telemetry",
}
"""Settings that say how long to wait, whom to tell and what a check lets pass: not what is done."""

FileName = Annotated[Path, AfterValidator(_nameable)]
ScriptLocation = Annotated[str, BeforeValidator(_text_of_path)]
Seconds = Annotated[float, AfterValidator(_seconds)]
Bytes = Annotated[int, AfterValidator(_bytes)]
Mode = Literal["migrate", "follow", "require"]
Bootstrap = Literal["upgrade", "create"]
Unversioned = Literal["refuse", "adopt", "upgrade"]
Unrecognised = Literal["refuse", "accept"]
Interrupted = Literal["refuse", "retry"]
Galera = Literal["refuse", "one-node"]
OnPeerFailure = Literal["fail", "retry"]
TransactionKind = Literal["env", "run", "revision", "off"]
Log = Literal["auto", "console", "json", "off"]
Telemetry = Literal["off", "otel", "prometheus"]
OnOff = Literal["on", "off"]


class SettingsArguments(TypedDict, total=False):
    """The settings as arguments: what a type checker sees of `Settings(...)` and `load(...)`."""

    database_url: str | URL | None
    direct_url: str | URL | None
    script_location: str | os.PathLike[str] | None
    version_locations: Sequence[str | os.PathLike[str]]
    alembic_config: str | os.PathLike[str] | None
    alembic_section: str
    target: str
    mode: Mode
    bootstrap: Bootstrap
    unversioned: Unversioned
    unrecognised: Unrecognised
    interrupted: Interrupted
    galera: Galera
    lock_timeout_seconds: float
    connect_timeout_seconds: float
    ddl_lock_timeout_seconds: float
    ddl_retry_seconds: float
    on_peer_failure: OnPeerFailure
    transaction: TransactionKind
    state_dir: str | os.PathLike[str] | None
    journal: str | os.PathLike[str] | None
    journal_max_bytes: int
    log: Log
    telemetry: Telemetry
    x_args: Sequence[str]
    tag: str | None
    warm_start: OnOff
    release: str | None
    app: str | None
    accepted_differences: str | os.PathLike[str] | None


class Settings(BaseModel):
    """How a run behaves. Immutable; every setting can also be an `ORCHESTRATOR_NAME` variable.

    Raises `ConfigurationError` for an unknown name or a wrong value, and says where it came
    from. Relative paths, in a file too, are relative to the working directory.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    database_url: Annotated[str | None, BeforeValidator(_text_of_url)] = Field(None, repr=False)
    """SQLAlchemy URL. Default: `DATABASE_URL`, the Alembic config's, then `env.py`'s own."""
    direct_url: Annotated[str | None, BeforeValidator(_text_of_url)] = Field(None, repr=False)
    """The same database by a way around a pooler, for migrations: it takes `database_url`'s place
    in all that the orchestrator does, and is what `env.py` reads as `sqlalchemy.url`."""
    script_location: ScriptLocation | None = None
    """Alembic's script directory: a path or `package:directory`. Default: the Alembic config's."""
    version_locations: tuple[ScriptLocation, ...] = ()
    """Where revision files lie, in place of the Alembic config's: paths or `package:directory`."""
    alembic_config: FileName | None = None
    """`alembic.ini` or `pyproject.toml`. Default: whichever is in the working directory."""
    alembic_section: Annotated[str, AfterValidator(_section)] = "alembic"
    """The section of the ini file, as `alembic -n` names it; `pyproject.toml` has only one."""
    target: Annotated[str, AfterValidator(_absolute_target)] = "heads"
    """What the database is to reach: `heads`, `head`, a revision or a label."""
    mode: Mode = "migrate"
    """`follow` never migrates: it waits until somebody else has. `require` neither migrates nor
    waits: a database that is not at its target is refused."""
    bootstrap: Bootstrap = "upgrade"
    """How an absent or empty database is filled: by its revisions, or from the metadata."""
    unversioned: Unversioned = "refuse"
    """Tables without a version row: `adopt` stamps them if they equal the metadata, `upgrade`
    runs all revisions on them, as Alembic does."""
    unrecognised: Unrecognised = "refuse"
    """A version that the scripts do not know: `accept` serves on it as it is."""
    interrupted: Interrupted = "refuse"
    """A revision that was begun, has committed a part of its work and not ended: `retry` runs it
    again from its beginning."""
    galera: Galera = "refuse"
    """A node of a Galera cluster, whose nodes do not share locks: `one-node` says that all
    processes that migrate reach the same one."""
    lock_timeout_seconds: Seconds = 300.0
    """How long to wait for another process. 0 tries twice; `inf` waits for ever."""
    connect_timeout_seconds: Seconds = 30.0
    """How long to wait for the database, and for another writer of a SQLite file."""
    ddl_lock_timeout_seconds: Seconds = 2.0
    """On a server: how long a statement that needs a table to itself waits for it, and others
    behind it, before all is rolled back and tried again. 0 waits as stock Alembic does."""
    ddl_retry_seconds: Seconds = 120.0
    """For how long it is tried again."""
    on_peer_failure: OnPeerFailure = "fail"
    """When the process that was waited for has failed: fail with it, or try again."""
    transaction: TransactionKind = "env"
    """What one transaction holds: what `env.py` says, the run, each revision; or stock Alembic."""
    state_dir: FileName | None = None
    """Where the lock, the record and the journal are. Default: beside the SQLite file."""
    journal: FileName | Literal["off"] | None = None
    """The journal file, or `off`. Default: `journal.jsonl` in the state directory."""
    journal_max_bytes: Bytes = 50_000_000
    """A journal longer than this is rotated by the next run, into `NAME.1`. 0 is no limit."""
    log: Log = "auto"
    """How events are told: `auto` by the application's logging, else as a few lines on stderr."""
    telemetry: Telemetry = "off"
    """What is made of the events for those who collect them: spans and metrics by OpenTelemetry,
    or metrics in the registry of Prometheus's client."""
    x_args: tuple[str, ...] = ()
    """`key=value` arguments for `env.py`, as `alembic -x` gives them."""
    tag: str | None = None
    """A tag for `env.py`, as `alembic upgrade --tag` gives it."""
    warm_start: OnOff = "on"
    """`off` loads the scripts at each start, whatever is remembered of the last one."""
    release: str | None = None
    """The application's version: shown to those who wait, and in the journal."""
    app: str | None = None
    """Where the command line finds the application's settings: the `module:object` of an
    `Orchestrator`, or of an application or a factory that has one."""
    accepted_differences: FileName | None = None
    """A file of the differences between models and database that `check` lets pass."""

    def __init__(self, **arguments: Unpack[SettingsArguments]) -> None:
        self._set(arguments, {})

    @classmethod
    def from_sources(cls, arguments: Mapping[str, Any], file: Mapping[str, Any]) -> Self:
        """Settings from arguments, then the environment, then what was read from a file."""
        settings = cls.__new__(cls)
        settings._set(arguments, file)
        return settings

    def replaced(self, changes: Mapping[str, Any]) -> Self:
        """The same with other values for some. Raises `ConfigurationError`."""
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        return self.from_sources({**kept, **changes}, {})

    def _set(self, arguments: Mapping[str, Any], file: Mapping[str, Any]) -> None:
        fields = type(self).model_fields
        named = variables(fields.keys() - arguments.keys())
        from_environment = {
            name: parsed(
                os.environ[variable],
                fields[name],
                name=name,
                source=variable,
                where=f"the environment variable {variable}",
            )
            for name, variable in named.items()
        }
        try:
            super().__init__(**{**file, **from_environment, **arguments})
        except ValidationError as error:
            raise explain(error, fields, arguments, named) from None

    def deciding(self) -> dict[str, Any]:
        """The settings that decide what a run does, as JSON has them: all but times and telling."""
        return self.model_dump(mode="json", exclude=_WITHOUT_EFFECT)
