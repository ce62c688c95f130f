"""Alembic's own commands for revision files, with the settings of a run.

None of them writes to the database, so none takes a lock: what another process is about to
commit, they do not see.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any, Final

from orchestrator.decision.authoring import refuse_unknown, require_heads
from orchestrator.decision.state import Observation
from orchestrator.errors import DatabaseUnavailable, OrchestratorError
from orchestrator.run.resources import Resources
from orchestrator.run.work import observe

if TYPE_CHECKING:
    from orchestrator.revisions.environment_context import PassOptions
    from orchestrator.revisions.migration_context import Environment

_HEADS: Final = "heads"


class Output(StringIO):
    """What a command of Alembic's prints: by its encoding it knows what it may print."""

    encoding = "utf-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class HandedOver:
    """What Alembic's function returned, and each database that it looked at beside the heads.

    `upgrade` is the command that leads to the heads.
    """

    returned: Any
    observations: tuple[Observation, ...]
    upgrade: str


class Authoring:
    """A command of Alembic's, handed over.

    `around` is entered for as long as `env.py` runs; what Alembic prints is written to `output`.
    """

    def __init__(
        self,
        resources: Resources,
        *,
        output: Output,
        around: Callable[[], AbstractContextManager[object]],
    ) -> None:
        self._resources = resources
        self._output = output
        self._around = around
        self._observations: list[Observation] = []
        self._name = ""
        self._autogenerates = False

    def hand_over(
        self, name: str, arguments: Mapping[str, Any], options: Mapping[str, Any]
    ) -> HandedOver:
        """Run a function of `alembic.command` by name; imports Alembic.

        Raises `StateRefused` where a revision would be made of a database that is not at its
        heads, and any other `OrchestratorError` that a look at the database raises.
        """
        from orchestrator.revisions import scripts
        from orchestrator.revisions.commands import AlembicCommand

        self._name = name
        self._autogenerates = bool(options.get("autogenerate"))
        try:
            loaded = scripts.load(self._resources.project, secrets=self._resources.secrets)
            loaded.config.stdout = loaded.config.output_buffer = self._output
            handed = AlembicCommand(
                name,
                loaded,
                pass_options=self._pass_options,
                look=self._look,
                around=self._around,
                secrets=self._resources.secrets,
            )
            returned = handed.run(arguments, options, self._resources.settings.x_args)
        except OrchestratorError as error:
            if isinstance(error, DatabaseUnavailable):
                error.say("Nothing was changed.")
            self._resources.without_secrets(error)
            raise
        return HandedOver(
            returned=returned, observations=tuple(self._observations), upgrade=self._upgrade
        )

    @property
    def _upgrade(self) -> str:
        reaches = self._resources.settings.target == _HEADS
        return self._resources.migrating if reaches else f"orchestrator upgrade {_HEADS}"

    def _pass_options(self) -> PassOptions:
        database = self._resources.database
        if database.exists():
            with database.connect() as connection:
                database.look(connection)  # tells what is no database at all
        return self._resources.pass_options(_HEADS)

    def _look(self, environment: Environment) -> None:
        database = self._resources.database
        several = environment.perhaps_one_of_several
        if not several:
            environment.check_is(database)
        connection = environment.connection
        table, schema = environment.version_table, environment.version_table_schema
        marked = not several and database.is_marked(connection, schema)
        mark = database.mark(connection, schema, table) if marked else None
        observation = observe(
            environment.scripts,
            _HEADS,
            exists=several or database.exists(),
            versions=environment.versions(),
            tables=database.tables(connection, table, schema),
            mark=mark,
            tabled=mark is None or environment.has_version_table,
        )
        self._observations.append(observation)
        if self._name == "current":
            refuse_unknown(observation)
        if self._autogenerates:
            require_heads(observation, upgrade=self._upgrade, run=self._resources.migrating)
            if not several:
                environment.metadata()
