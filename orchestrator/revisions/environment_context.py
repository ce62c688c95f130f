"""Alembic's context as a pass of `env.py` uses it: one at a time, with what must win."""

from __future__ import annotations

import os
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from configparser import InterpolationError
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from alembic import command
from alembic import context as context_module
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from orchestrator.databases import database_of
from orchestrator.databases.base import Database
from orchestrator.databases.patience import Patience
from orchestrator.errors import ConfigurationError
from orchestrator.revisions.application_logging import host_logging_kept
from orchestrator.revisions.forked import end_if_forked
from orchestrator.revisions.scripts import Scripts
from orchestrator.revisions.transactions import TRANSACTIONS
from orchestrator.revisions.transactions.base import Blocked, Transaction

ATTRIBUTE: Final = "orchestrator"
"""The key of `config.attributes` by which an `env.py` can tell that it runs inside a pass."""


class Attributes(dict[str, Any]):
    """`config.attributes`, which notes what `env.py` asks for and nobody has given."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        self.lacking: list[str] = []

    def __missing__(self, key: str) -> Any:
        self.lacking.append(key)
        raise KeyError(key)

    def get(self, key: str, *default: Any) -> Any:
        """As of any dictionary; who gives a default is prepared."""
        if key not in self and not default:
            self.lacking.append(key)
        return super().get(key, *default)


_one_at_a_time = threading.Lock()  # Alembic keeps its context in module globals


def _renew_lock() -> None:
    """A child that is forked during a pass has no thread that would ever free its copy."""
    global _one_at_a_time  # noqa: PLW0603 - the child's own
    _one_at_a_time = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arguments:
    """What the `alembic` command would be given, as far as `env.py` can ask for it.

    `x_arguments` for `context.get_x_argument()`, `tag` for `context.get_tag_argument()`,
    `attributes` for `context.config.attributes`. `patience` is how what is in the way is waited
    for; its `interrupted` raises `Interrupted` when the work should end.
    """

    target: str
    x_arguments: tuple[str, ...] = ()
    tag: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    patience: Patience = field(default_factory=Patience)


@dataclass(frozen=True, kw_only=True, slots=True)
class PassOptions(Arguments):
    """How `env.py` is run on the database.

    `process` says who runs it. `warn` is told what somebody should know of a revision, which it
    names. `lock_seconds` is how
    long is waited for somebody who works without the lock.

    `ddl_lock_seconds` is how long a statement may wait that keeps others out, and
    `ddl_retry_seconds` how long all is tried again where that was too short; `blocked` is told of
    each try: its number, the seconds since the first, those until the next. `attend` looks at the
    work while it lasts.
    """

    database: Database
    transaction: str = "env"
    process: str = ""
    lock_seconds: float = 30.0
    ddl_lock_seconds: float = 0.0
    ddl_retry_seconds: float = 0.0
    attend: Callable[[Transaction], AbstractContextManager[None]] = lambda _: nullcontext()
    blocked: Callable[[Blocked, int, float, float], None] = lambda *_: None
    warn: Callable[[str, str | None], None] = lambda _message, _revision: None


class PassContext(EnvironmentContext):
    """Alembic's context, with the options that must win over those that `env.py` sets."""

    def __init__(
        self, config: Config, script: ScriptDirectory, *, transaction: str = "env", **options: Any
    ) -> None:
        super().__init__(config, script, **options)
        self._transaction_setting = transaction
        self._pid = os.getpid()

    def __exit__(self, *raised: Any) -> None:
        """Give Alembic's names back; a child that `env.py` forked goes no further."""
        end_if_forked(self._pid, raised[1])
        super().__exit__(*raised)

    def configure(self, connection: Connection | None = None, *args: Any, **options: Any) -> None:
        """Configure as `env.py` says, but for what must win."""
        if self._transaction_setting in ("run", "revision"):
            options["transaction_per_migration"] = self._transaction_setting == "revision"
            options["transactional_ddl"] = True
        elif self._transaction_setting == "env" and connection is not None:
            told = TRANSACTIONS[connection.dialect.name].transactional_ddl
            if told is not None:
                options.setdefault("transactional_ddl", told)
        super().configure(connection, *args, **options)


# The names of `alembic.context`, which `env.py` imports, stand for a context of this class, too.
PassContext.create_module_class_proxy(vars(context_module), vars(context_module))


@contextmanager
def env_py_ready(
    scripts: Scripts, arguments: Arguments, database: Database | None
) -> Iterator[None]:
    """Have the process to oneself for passes of `env.py`, and the host's logging kept.

    Where none is given, `env.py` has to know its database.
    """
    lock = _one_at_a_time
    while not lock.acquire(timeout=0.05):
        arguments.patience.interrupted()
    try:
        _give_arguments(scripts.config, arguments)
        if database is not None:
            _give_url(scripts.config, database)
        with host_logging_kept():
            yield
    finally:
        lock.release()


def _give_arguments(config: Config, arguments: Arguments) -> None:
    config.attributes = Attributes({**arguments.attributes, ATTRIBUTE: True})
    # What `alembic upgrade TARGET` would give: environments ask for any of it.
    config.cmd_opts = Namespace(
        cmd=(command.upgrade, ["revision"], ["sql", "tag"]),
        config=None,
        name=config.config_ini_section,
        quiet=False,
        raiseerr=False,
        revision=arguments.target,
        sql=False,
        tag=arguments.tag,
        x=list(arguments.x_arguments) or None,
    )


def _give_url(config: Config, database: Database) -> None:
    """Let `env.py` find the orchestrator's URL, unless its own names the same database."""
    try:
        own = config.get_main_option("sqlalchemy.url")
        if own and database_of(own).identity == database.identity:
            return
    except (ConfigurationError, InterpolationError):
        pass  # a placeholder, as Alembic's templates have, or one whose parts env.py sets
    text = database.url.render_as_string(hide_password=False)
    config.set_main_option("sqlalchemy.url", text.replace("%", "%%"))
