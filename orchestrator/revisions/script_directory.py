"""Where a project's scripts lie: the Alembic config and the script directory it names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from alembic.util.pyfiles import pyc_file_from_path

from orchestrator.databases.quoting import told
from orchestrator.databases.secrets import NO_SECRETS, Secrets
from orchestrator.decision.state import ScriptLocations
from orchestrator.errors import ConfigurationError, by_setting
from orchestrator.revisions.application_logging import host_logging_kept
from orchestrator.revisions.config import AlembicProject
from orchestrator.revisions.script_errors import explained


def fingerprint_of(project: AlembicProject, fingerprint: Callable[[ScriptLocations], str]) -> str:
    """The fingerprint of the scripts that `load` would load; none of them is executed.

    Raises `ConfigurationError` where there is no script location, or no `env.py` in it.
    """
    config = config_of(project)
    with host_logging_kept(), explained():
        directory = directory_of(config, project.version_locations)
        return fingerprint(locations_of(config, directory))


def config_of(project: AlembicProject) -> Config:
    """The Alembic config of the files that exist. Raises `ConfigurationError`."""
    present = {path.suffix == ".toml": str(path) for path in project.config_files if path.is_file()}
    config = Config(present.get(False), toml_file=present.get(True), ini_section=project.section)
    if not config.file_config.has_section(config.config_ini_section):
        config.file_config.add_section(config.config_ini_section)
    if project.script_location:
        config.set_main_option("script_location", project.script_location.replace("%", "%%"))
    elif not config.get_alembic_option("script_location"):
        raise ConfigurationError(
            "No script location is known. Set one, a path or package:directory: "
            f"{by_setting('script_location')}; or run where an alembic.ini names it under "
            f"[{project.section}], or a pyproject.toml under [tool.alembic].",
            setting="script_location",
        )
    return config


def locations_of(config: Config, directory: ScriptDirectory) -> ScriptLocations:
    """Where everything lies, as the config words it and the directory has it now."""
    return ScriptLocations(
        script_location=cast("str", config.get_alembic_option("script_location")),
        version_locations=tuple(str(path) for path in directory.version_locations),
        recursive=directory.recursive_version_locations,
        sourceless=directory.sourceless,
    )


def directory_of(
    config: Config, version_locations: Sequence[str], secrets: Secrets = NO_SECRETS
) -> ScriptDirectory:
    """The script directory. Raises `ConfigurationError` where there is none, or no `env.py`."""
    directory = _script_directory(config, secrets)
    if env_py_file(directory) is None:
        raise ConfigurationError(
            f"The script location {directory.dir} has no env.py: there is no "
            f"{os.path.abspath(directory.env_py_location)}.",
            setting="script_location",
        )
    if version_locations:
        directory.version_locations = list(version_locations)
        vars(directory).pop("_version_locations", None)
        for location in directory._version_locations:
            if not os.path.isdir(location):
                raise ConfigurationError(
                    f"There is no directory {os.path.abspath(location)}, which "
                    f"{by_setting('version_locations')} names.",
                    setting="version_locations",
                )
    return directory


def env_py_file(directory: ScriptDirectory) -> Path | None:
    """What Alembic runs as `env.py`: the bytecode where there is no source; None without both."""
    source = Path(directory.env_py_location)
    return source if source.is_file() else pyc_file_from_path(source)


def _script_directory(config: Config, secrets: Secrets) -> ScriptDirectory:
    location = config.get_alembic_option("script_location")
    try:
        with _import_path_kept_short():
            return ScriptDirectory.from_config(config)
    except (CommandError, ImportError) as error:
        if isinstance(error, CommandError) and os.path.isdir(str(location)):
            raise
        package = str(location).partition(":")[0]
        reason = (
            f"the package {package} cannot be imported: {told(error, secrets)}"
            if isinstance(error, ImportError)
            else f"there is no directory {os.path.abspath(str(location))}"
            if ":" not in str(location)
            else "there is no such directory"
        )
        raise ConfigurationError(
            f"The script location {location} cannot be used: {reason}.",
            setting="script_location",
        ) from error


@contextmanager
def _import_path_kept_short() -> Iterator[None]:
    """Take away the older twins of what `prepend_sys_path` puts in front, each time anew."""
    before = len(sys.path)
    yield
    new = len(sys.path) - before
    if new > 0:
        sys.path[new:] = [path for path in sys.path[new:] if path not in sys.path[:new]]
