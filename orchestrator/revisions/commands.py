"""Alembic's own commands, on scripts that are loaded already and in the context of a pass."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from inspect import signature
from types import FunctionType, SimpleNamespace
from typing import Any

import alembic
from alembic import command
from alembic.config import Config
from alembic.operations.ops import MigrationScript
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError

from orchestrator.databases.quoting import told
from orchestrator.databases.secrets import Secrets
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.revisions.connections import absent_databases_empty
from orchestrator.revisions.environment_context import PassContext, PassOptions, env_py_ready
from orchestrator.revisions.migration_context import Environment
from orchestrator.revisions.script_errors import explained, file_in_hand
from orchestrator.revisions.scripts import Scripts
from orchestrator.revisions.task_errors import explain_env_py


class AlembicCommand:
    """One of the functions of `alembic.command`, as the `alembic` command line calls it.

    It runs as Alembic wrote it, but for two names: its `ScriptDirectory` is that of `scripts`, and
    its `EnvironmentContext` a pass's, in which nothing is written to a database and none is made.
    Tried with Alembic 1.16 to 1.20.

    `pass_options` is asked, where `env.py` is to be run, on which database. `look` sees what
    `env.py` has configured, before the command does; what it raises ends the command. `around`
    is entered for as long as `env.py` runs.
    """

    def __init__(
        self,
        name: str,
        scripts: Scripts,
        *,
        pass_options: Callable[[], PassOptions],
        look: Callable[[Environment], None],
        around: Callable[[], AbstractContextManager[object]],
        secrets: Secrets,
    ) -> None:
        self._name = name
        self._scripts = scripts
        self._pass_options = pass_options
        self._look = look
        self._around = around
        self._secrets = secrets
        self._given = Namespace()
        self._began = False
        self._failure: BaseException | None = None

    def run(
        self, arguments: Mapping[str, Any], options: Mapping[str, Any], x_arguments: Iterable[str]
    ) -> Any:
        """What Alembic's function returns, given this on its command line.

        Raises `ConfigurationError` for what Alembic or a template finds wrong, and for an option
        that this release of Alembic does not have.
        """
        function = getattr(command, self._name)
        options = self._known(function, options)
        config = self._scripts.config
        config.cmd_opts = self._given = Namespace(
            cmd=(function, list(arguments), list(options)),
            config=None,
            name=config.config_ini_section,
            quiet=False,
            raiseerr=False,
            x=list(x_arguments) or None,
            **arguments,
            **options,
        )
        own: Any = FunctionType(
            function.__code__,
            {
                **vars(command),
                "EnvironmentContext": self._environment,
                "ScriptDirectory": SimpleNamespace(from_config=lambda _: self._scripts.directory),
            },
            function.__name__,
            function.__defaults__,
        )
        with explained(secrets=self._secrets):
            try:
                return own(config, *arguments.values(), **options)
            except (CommandError, RevisionError, OrchestratorError):
                raise
            except Exception as error:
                if file_in_hand(error):
                    raise
                raise ConfigurationError(
                    f"Alembic's `{self._name}` failed: {type(error).__name__}: "
                    f"{told(error, self._secrets)}."
                ) from error

    def _known(self, function: Any, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options that this release of Alembic has."""
        known = signature(function).parameters
        for name in options.keys() - known.keys():
            if options[name]:
                raise ConfigurationError(
                    f"Alembic {alembic.__version__} has no --{name.replace('_', '-')} of "
                    f"`{self._name}`. Use a newer one, or leave it out."
                )
        return {name: value for name, value in options.items() if name in known}

    @contextmanager
    def _environment(
        self,
        config: Config,
        directory: ScriptDirectory,
        *,
        fn: Callable[[tuple[str, ...], MigrationContext], Iterable[Any]],
        **options: Any,
    ) -> Iterator[PassContext]:
        """What the command takes for its `EnvironmentContext`: `env.py` is run in the block."""
        given = self._pass_options()
        options |= {"dont_mutate": True, "tag": given.tag}
        context = PassContext(
            config, directory, transaction="off", fn=partial(self._in_pass, fn), **options
        )
        with (
            env_py_ready(self._scripts, given, given.database),
            absent_databases_empty(given.database),
        ):
            config.cmd_opts = self._given
            try:
                with self._around(), context:
                    yield context
            except (KeyboardInterrupt, GeneratorExit):
                raise
            except BaseException as error:  # noqa: BLE001 - raised again below
                # An env.py may end its work by sys.exit(), as the `alembic` command lets it.
                ended = self._began and isinstance(error, SystemExit) and not error.code
                if self._failure is None and not ended:
                    self._failure = error
        if self._failure is not None:  # or env.py swallowed it
            raise self._explained(self._failure, given)
        if not self._began:
            raise ConfigurationError(
                f"{directory.env_py_location} never called context.run_migrations(), so the "
                "database could not be looked at. Nothing was changed.",
                setting="script_location",
            )
        if getattr(self._given, "autogenerate", False):
            _leave_out_empty(options["revision_context"].generated_revisions)

    def _in_pass(
        self,
        fn: Callable[[tuple[str, ...], MigrationContext], Iterable[Any]],
        heads: tuple[str, ...],
        context: MigrationContext,
    ) -> Iterable[Any]:
        """What Alembic takes as `fn`: called by `context.run_migrations()`."""
        self._began = True
        try:
            self._scripts.reload()
            if not context.as_sql:
                self._look(Environment(context, self._scripts))
            return fn(heads, context)
        except BaseException as error:
            self._failure = error
            raise

    def _explained(self, error: BaseException, given: PassOptions) -> BaseException:
        if isinstance(error, (OrchestratorError, CommandError, RevisionError)):
            return error
        told = explain_env_py(error, self._scripts, given.database, began=False, ended=False)
        told.__cause__ = error
        return told


def _leave_out_empty(made: list[MigrationScript]) -> None:
    """Leave no script where none has an operation, after all that `env.py` has added to them."""
    every = [ops for one in made for ops in (*one.upgrade_ops_list, *one.downgrade_ops_list)]
    if all(ops.is_empty() for ops in every):
        made.clear()
