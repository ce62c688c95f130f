"""The SQL of a migration, written down instead of executed."""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any

from alembic.runtime.migration import MigrationContext

from orchestrator.databases.quoting import told
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.revisions.env_py import Work
from orchestrator.revisions.environment_context import PassContext, PassOptions, env_py_ready
from orchestrator.revisions.migration_context import Environment
from orchestrator.revisions.script_errors import where
from orchestrator.revisions.scripts import Scripts


def write_sql(scripts: Scripts, work: Work, options: PassOptions, versions: tuple[str, ...]) -> str:
    """The SQL that `work` would execute on a database at these versions, by `env.py` offline.

    Raises `ConfigurationError` where a revision cannot be written down.
    """
    output = StringIO()

    def migrate(heads: tuple[str, ...], context: MigrationContext) -> Iterator[Any]:
        for step in work(Environment(context, scripts)):
            yield step.alembic

    context = PassContext(
        scripts.config,
        scripts.directory,
        fn=migrate,
        as_sql=True,
        starting_rev=versions or None,
        destination_rev=options.target,
        output_buffer=output,
        tag=options.tag,
    )
    with env_py_ready(scripts, options, options.database), context:
        try:
            scripts.directory.run_env()
        except OrchestratorError:
            raise
        except Exception as error:
            file, line = where(error, scripts.directory.dir)
            text = told(error, options.database.secrets)
            advice = options.database.advice(error) or (
                "Migrations that read the database cannot be written down."
            )
            raise ConfigurationError(
                f"The SQL cannot be written: {type(error).__name__}: {text} "
                f"({file}, line {line}). {advice}"
            ) from error
    return output.getvalue()
