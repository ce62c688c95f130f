"""Settings: defaults < file < environment < arguments, and where a wrong one came from."""

from __future__ import annotations

import difflib
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from orchestrator.errors import ConfigurationError

_PREFIX: Final = "ORCHESTRATOR_"
_file_values: ContextVar[Mapping[str, Any]] = ContextVar(
    "_file_values", default=MappingProxyType({})
)


def _seconds(value: float) -> float:
    if math.isnan(value) or value < 0:
        raise ValueError("must be 0 or more seconds, or inf")
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


_WITHOUT_EFFECT: Final = {"lock_timeout_seconds", "connect_timeout_seconds", "journal", "log"}
"""Settings that say how long to wait and whom to tell, and not what is done."""

_WANTED: Final = {
    "float_parsing": "must be a number of seconds, or inf",
    "float_type": "must be a number of seconds, or inf",
    "path_type": "must be a path",
    "string_type": "must be a text",
}
"""What is wanted, in place of pydantic's words for it."""

FileName = Annotated[Path, AfterValidator(_nameable)]
Seconds = Annotated[float, AfterValidator(_seconds)]
Log = Literal["auto", "console", "json", "off"]


class Settings(BaseSettings):
    """How a run behaves. Immutable; every setting can also be an `ORCHESTRATOR_NAME` variable.

    Raises `ConfigurationError` for an unknown name or a wrong value, and says where it came
    from. Relative paths, in a file too, are relative to the working directory.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: str | None = Field(None, repr=False)
    """SQLAlchemy URL. Default: `DATABASE_URL`, the Alembic config's, then `env.py`'s own."""
    script_location: str | None = None
    """Alembic's script directory: a path or `package:directory`. Default: the Alembic config's."""
    version_locations: tuple[str, ...] = ()
    """Where revision files lie, in place of the Alembic config's: paths or `package:directory`."""
    alembic_config: FileName | None = None
    """`alembic.ini` or `pyproject.toml`. Default: whichever is in the working directory."""
    alembic_section: Annotated[str, AfterValidator(_section)] = "alembic"
    """The section of the ini file, as `alembic -n` names it; `pyproject.toml` has only one."""
    target: Annotated[str, AfterValidator(_absolute_target)] = "heads"
    """What the database is to reach: `heads`, `head`, a revision or a label."""
    mode: Literal["migrate", "follow"] = "migrate"
    """`follow` never migrates: it waits until somebody else has."""
    bootstrap: Literal["upgrade", "create"] = "upgrade"
    """How an absent or empty database is filled: by its revisions, or from the metadata."""
    unversioned: Literal["refuse", "adopt", "upgrade"] = "refuse"
    """Tables without a version row: `adopt` stamps them if they equal the metadata, `upgrade`
    runs all revisions on them, as Alembic does."""
    unrecognised: Literal["refuse", "accept"] = "refuse"
    """A version that the scripts do not know: `accept` serves on it as it is."""
    lock_timeout_seconds: Seconds = 300.0
    """How long to wait for another process. 0 tries twice; `inf` waits for ever."""
    connect_timeout_seconds: Seconds = 30.0
    """How long to wait for the database, and for another writer of a SQLite file."""
    on_peer_failure: Literal["fail", "retry"] = "fail"
    """When the process that was waited for has failed: fail with it, or try again."""
    transaction: Literal["env", "run", "revision", "off"] = "env"
    """What one transaction holds: what `env.py` says, the run, each revision; or stock Alembic."""
    state_dir: FileName | None = None
    """Where the lock, the record and the journal are. Default: beside the SQLite file."""
    journal: FileName | Literal["off"] | None = None
    """The journal file, or `off`. Default: `journal.jsonl` in the state directory."""
    log: Log = "auto"
    """How events are told: `auto` by the application's logging, else as a few lines on stderr."""
    x_args: tuple[str, ...] = ()
    """`key=value` arguments for `env.py`, as `alembic -x` gives them."""
    tag: str | None = None
    """A tag for `env.py`, as `alembic upgrade --tag` gives it."""
    warm_start: Literal["on", "off"] = "on"
    """`off` loads the scripts at each start, whatever is remembered of the last one."""
    release: str | None = None
    """The application's version: shown to those who wait, and in the journal."""

    def __init__(self, **arguments: Any) -> None:
        try:
            super().__init__(**arguments)
        except SettingsError as error:
            raise ConfigurationError(
                f"A value in the environment cannot be read: {error}. A list is written as JSON, "
                'such as ["one", "two"].',
                source="environment",
            ) from None
        except ValidationError as error:
            raise _explain(error, arguments) from None

    def deciding(self) -> dict[str, Any]:
        """The settings that decide what a run does, as JSON has them: all but times and telling."""
        return self.model_dump(mode="json", exclude=_WITHOUT_EFFECT)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the file that `load` has read."""
        file_settings = InitSettingsSource(settings_cls, dict(_file_values.get()))
        return init_settings, env_settings, file_settings


def load(file: str | Path | None = None, **arguments: Any) -> Settings:
    """Settings from a file, the environment and arguments; an argument of None is not given.

    Without a file: the one that `ORCHESTRATOR_CONFIG` names, else `[tool.orchestrator]` of the
    `pyproject.toml` in the working directory, if there is one. In a `pyproject.toml` the
    settings stand under `[tool.orchestrator]`, in every other file at the top.

    Raises `ConfigurationError` where the file is missing or cannot be read, too.
    """
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise ConfigurationError(
            "The working directory does not exist any more, and relative paths are relative to "
            "it. Nothing was changed. Start in a directory that exists."
        ) from error
    given = {name: value for name, value in arguments.items() if value is not None}
    named = file or os.environ.get(f"{_PREFIX}CONFIG")
    path = Path(named or "pyproject.toml")
    values = _read(path) if named or path.is_file() else {}
    with _values_of(values):
        try:
            return Settings(**given)
        except ConfigurationError as error:
            if error.source == "file":
                raise ConfigurationError(
                    f"{path}: {error}",
                    setting=error.setting,
                    source=str(path),
                    allowed=error.allowed,
                ) from None
            raise


@contextmanager
def _values_of(values: Mapping[str, Any]) -> Iterator[None]:
    token = _file_values.set(values)
    try:
        yield
    finally:
        _file_values.reset(token)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            values: dict[str, Any] = tomllib.load(file)
    except OSError as error:
        raise ConfigurationError(
            f"The configuration file {path} cannot be read: {error.strerror}.", source=str(path)
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"The configuration file {path} is not TOML: {error}.", source=str(path)
        ) from error
    if path.name != "pyproject.toml":
        return values
    for name in ("tool", "orchestrator"):
        values = values.get(name, {})
        if not isinstance(values, dict):
            raise ConfigurationError(
                f"{path}: `{name}` is not a table. The settings stand under [tool.orchestrator].",
                source=str(path),
            )
    return values


def _explain(error: ValidationError, arguments: Mapping[str, Any]) -> ConfigurationError:
    """The first thing that is wrong, in words: where it came from, and what would be right."""
    first = error.errors(include_url=False, include_context=True)[0]
    name = str(first["loc"][0])
    variable = next((key for key in os.environ if key.upper() == f"{_PREFIX}{name.upper()}"), None)
    if name in arguments:
        source, where = "argument", f"the argument `{name}`"
    elif variable is not None and first["type"] != "extra_forbidden":
        source, where = variable, f"the environment variable {variable}"
    else:
        source, where = "file", f"the key `{name}`"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, Settings.model_fields, n=1)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        return ConfigurationError(
            f"There is no setting `{name}`.{hint}",
            setting=name,
            source=source,
            allowed=tuple(near),
        )
    allowed = _allowed(name)
    if allowed and (not first["type"].startswith("value_error")):
        wanted = f"must be {' or '.join(allowed)}"
    elif first["type"] == "value_error":
        wanted = str(first["ctx"]["error"])
    else:
        wanted = _WANTED.get(first["type"], first["msg"].lower())
    return ConfigurationError(
        f"The value of {where} is wrong: `{name}` {wanted}.",
        setting=name,
        source=source,
        allowed=allowed,
    )


def _allowed(name: str) -> tuple[str, ...]:
    annotation = Settings.model_fields[name].annotation
    return tuple(value for value in get_args(annotation) if isinstance(value, str))
