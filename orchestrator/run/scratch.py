"""A database of one's own, made for a comparison and taken away after it."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from orchestrator.databases import database_of
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.run.resources import Resources
from orchestrator.settings import Settings


@contextmanager
def scratch(resources: Resources, url: str | None) -> Iterator[Settings]:
    """The settings of a run that fills a new database by the revisions of these resources.

    Without a URL it is a file in a temporary directory, which is removed at the end of the block,
    or of the process; where the database cannot be a file, a URL is needed. What a URL names
    must not exist yet.

    Raises `ConfigurationError`, also for a database that exists.
    """
    with (
        TemporaryDirectory(prefix="orchestrator-") as directory,
        ExitStack() as stack,
    ):
        made = url or resources.database.scratch_url(Path(directory))
        if made is None:
            raise ConfigurationError(
                f"For {resources.database.shown_url} a scratch database cannot be made by itself. "
                "Name one that does not exist yet with --scratch-url: it is made, and dropped.",
                setting="scratch_url",
            )
        database = database_of(made)
        if url is not None:
            stack.enter_context(_locked(resources, url))
        if not database.make():
            raise ConfigurationError(
                f"The scratch database {database.shown_url} exists already, and it would be "
                "dropped. Nothing was changed. Name one that does not exist yet.",
                setting="scratch_url",
            )
        atexit.register(database.drop)  # as the directory is removed at the end of the process
        try:
            yield resources.settings.model_copy(
                update={
                    "database_url": made,
                    "direct_url": None,
                    "state_dir": Path(directory),
                    "mode": "migrate",
                    "bootstrap": "upgrade",
                    "warm_start": "off",
                    "journal": "off",
                    "log": "off",
                }
            )
        finally:
            atexit.unregister(database.drop)
            database.drop()


@contextmanager
def _locked(resources: Resources, url: str) -> Iterator[None]:
    """Hold the lock of the database that was named: a run on it waits until it is dropped.

    Raises `ConfigurationError` where somebody works on it.
    """
    named = Resources(
        resources.settings.model_copy(update={"database_url": url, "direct_url": None})
    )
    named.prepare()
    lock = named.lock()
    if not lock.try_acquire():
        raise ConfigurationError(
            f"The scratch database {named.database.shown_url} is in use: another process holds "
            "its lock. Nothing was changed. Name one that nobody else uses.",
            setting="scratch_url",
        )
    try:
        yield
    finally:
        lock.release()


def of_scratch(error: OrchestratorError) -> OrchestratorError:
    """The error of the run on it, in words that nobody takes for one of the database itself."""
    from orchestrator.revisions.task_errors import BOOTSTRAP  # imports Alembic

    text = str(error).replace("The database is as it was before. ", "").replace(BOOTSTRAP, "")
    told = f"In the scratch database, which is taken away again: {text.strip()}"
    error.args = (f"{told} The database itself was not looked at.",)
    return error


def refuse_own_database(resources: Resources) -> None:
    """See to it that `env.py` connects to the scratch database, before anything is done there.

    And to no other, of which connecting would make a file. Raises `ConfigurationError` for one
    that has its own way to a database.
    """
    from orchestrator.revisions.connections import connects_to, has_one_database  # imports Alembic

    scripts = resources.scripts()
    options = resources.pass_options(resources.settings.target)
    own = connects_to(scripts, options)
    if own is None:
        has_one_database(scripts, options)
        return
    raise ConfigurationError(
        f"{scripts.directory.env_py_location} connects to {own}, and not to the scratch database "
        "that it was given. Nothing was done there. Let it take the URL from "
        '`context.config.get_main_option("sqlalchemy.url")`; or point it to a scratch database by '
        "its own settings (a variable, say), and name the same one with --scratch-url.",
        setting="database_url",
    )
