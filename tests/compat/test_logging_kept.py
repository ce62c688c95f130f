"""`env.py` configures logging; the host application's stays as it is."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.compat.projects import ENV_PY, INI, Existing, assert_failed, assert_ready, existing

LOGGING_INI = """
[loggers]
keys = root,alembic

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = CRITICAL
handlers = console

[logger_alembic]
level = INFO
handlers =
qualname = alembic

[handler_console]
class = StreamHandler
args = (sys.stderr,)
level = NOTSET
formatter = plain

[formatter_plain]
format = %(message)s
"""

DICT = """
{
    "version": 1,
    "disable_existing_loggers": True,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"level": "CRITICAL", "handlers": ["console"]},
}
"""

CONFIGURATIONS = {
    "fileConfig": """
        from logging.config import fileConfig
        fileConfig(context.config.config_file_name)
        """,
    "fileConfig_checked": """
        from logging.config import fileConfig
        if context.config.config_file_name is not None:
            fileConfig(context.config.config_file_name, disable_existing_loggers=True)
        """,
    "dictConfig": f"import logging.config\nlogging.config.dictConfig({DICT.strip()})",
    "basicConfig": "import logging\nlogging.basicConfig(level=logging.ERROR, force=True)",
    "application": "import application_logging\napplication_logging.configure()",
    "application_file": "import application_logging\napplication_logging.configure_by_file()",
    "by_hand": """
        import logging
        logging.getLogger().setLevel(logging.CRITICAL)
        logging.getLogger().handlers.clear()
        logging.getLogger("host").disabled = True
        logging.getLogger("host").propagate = False
        logging.getLogger("host").filters.append(lambda record: False)
        logging.getLogger("host").handlers[0].setLevel(logging.CRITICAL)
        logging.getLogger("host").handlers[0].setFormatter(None)
        logging.getLogger("host").addHandler(logging.StreamHandler())
        logging.disable(logging.CRITICAL)
        """,
}

APPLICATION = f"""
from logging.config import dictConfig, fileConfig

def configure():
    dictConfig({DICT.strip()})

def configure_by_file():
    fileConfig("alembic.ini")
"""

HOST = """
import io, logging, os, sys
import anyio
import application_logging
from orchestrator import Orchestrator, OrchestratorError

said = io.StringIO()
handler = logging.StreamHandler(said)
handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
logging.getLogger().addHandler(handler)
own = logging.StreamHandler(said)
own.setFormatter(logging.Formatter("own %(message)s"))
host = logging.getLogger("host")
host.addHandler(own)
host.setLevel(logging.INFO)

def state():
    loggers = [logging.getLogger(name) for name in (None, "host", "host.part", "orchestrator")]
    handlers = [one for logger in loggers for one in logger.handlers]
    return [
        [(x.level, x.disabled, x.propagate, list(x.handlers), list(x.filters)) for x in loggers],
        [(x.level, x.formatter, list(x.filters)) for x in handlers],
        logging.root.manager.disable,
        [logging.config.fileConfig.__code__, logging.config.dictConfig.__code__],
        logging.basicConfig.__code__,
    ]

before = state()
for way in sys.argv[1:]:
    os.chdir(way)
    try:
        anyio.run(Orchestrator.from_config().run)
        print(way, "ready")
    except OrchestratorError as error:
        print(way, type(error).__name__)
    os.chdir("..")
    assert state() == before, (way, before, state())
    host.info("still here")
    assert said.getvalue().endswith("own still here\\nINFO still here\\n"), (way, said.getvalue())
logging.basicConfig(level=logging.ERROR, force=True)
assert logging.getLogger().level == logging.ERROR
logging.config.dictConfig({"version": 1, "root": {"level": "INFO"}})
assert logging.getLogger().level == logging.INFO
"""


@pytest.mark.parametrize("ending", ["ready", "TaskFailed"])
def test_host_logging_is_kept(tmp_path: Path, ending: str) -> None:
    """Loggers, handlers, filters and levels are the same before and after, and they work.

    On success and on failure, and where the application imported a configurator before.
    """
    for way, code in CONFIGURATIONS.items():
        env = ENV_PY.replace("from sqlalchemy", f"{dedent(code)}\nfrom sqlalchemy", 1)
        project = existing(tmp_path / way, env=env, ini=INI + LOGGING_INI)
        project.revision("r1", None, "" if ending == "ready" else "raise ValueError('no')")
    host = Existing(tmp_path)
    host.write("application_logging.py", APPLICATION)

    ended = host.python(HOST, *CONFIGURATIONS)

    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{way} {ending}" for way in CONFIGURATIONS]


def test_host_logging_is_kept_from_revision_files(tmp_path: Path) -> None:
    """They are loaded before `env.py` runs, and may import an application that configures it."""
    ways = [way for way in CONFIGURATIONS if not way.startswith("fileConfig")]
    for way in ways:
        project = existing(tmp_path / way, ini=INI + LOGGING_INI)
        file = project.revision("r1", None)
        file.write_text(f"{dedent(CONFIGURATIONS[way])}\n{file.read_text()}")
    host = Existing(tmp_path)
    host.write("application_logging.py", APPLICATION)

    ended = host.python(HOST, *ways)

    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{way} ready" for way in ways]


def test_the_command_keeps_its_words(tmp_path: Path) -> None:
    """The console script runs the standard `env.py`; what that configures of others is put back."""
    code = CONFIGURATIONS["fileConfig"]
    env = ENV_PY.replace("from sqlalchemy", f"{dedent(code)}\nfrom sqlalchemy", 1)
    project = existing(tmp_path, env=env, ini=INI + LOGGING_INI)
    project.revision("r1", None)

    ended = project.run("run", "--json")

    assert_ready(ended, "r1")
    assert "Context impl" not in ended.stderr


OWN_LOGGER = """
import logging, logging.config

logging.getLogger("appl.earlier")
logging.config.dictConfig({
    "version": 1,
    "handlers": {"task": {"class": "logging.StreamHandler"}},
    "loggers": {"appl.task": {"handlers": ["task"]}},
})
if [one.name for one in logging.getLogger("appl.task").handlers] != ["task"]:
    raise RuntimeError("the log reader 'task' is not a handler of 'appl.task'")
"""


def test_an_application_configures_loggers_of_its_own(tmp_path: Path) -> None:
    """Imported by `env.py`, it finds what it has configured; in later passes it does so, too."""
    look = "import logging, appl\nassert logging.getLogger('appl.task').handlers, 'lost'\n"
    project = existing(tmp_path, env=look + ENV_PY)
    project.write("appl.py", OWN_LOGGER)
    project.revision("r1", None)

    assert_ready(project.run("run", "--json"), "r1")

    file = project.revision("r2", "r1")
    file.write_text(f"{look}{file.read_text()}")
    assert_ready(project.run("run", "--json"), "r2")


def test_handlers_that_existed_are_not_closed(tmp_path: Path) -> None:
    """Attached or not, they work on, have their names, and are flushed when the process ends."""
    dictionary, file = CONFIGURATIONS["dictConfig"], CONFIGURATIONS["fileConfig"]
    code = "\n".join(map(dedent, (dictionary, file, CONFIGURATIONS["basicConfig"])))
    env = ENV_PY.replace("from sqlalchemy", f"{code}\nfrom sqlalchemy", 1)
    project = existing(tmp_path, env=env, ini=INI + LOGGING_INI)
    project.revision("r1", None)

    ended = project.python(
        """
        import logging, logging.handlers
        import anyio
        from orchestrator import Orchestrator

        class Watched(logging.Handler):
            closed = False
            def close(self):
                self.closed = True
                super().close()

        attached, loose = Watched(), Watched()
        attached.set_name("console")
        logging.getLogger().addHandler(attached)
        late = logging.handlers.MemoryHandler(100, logging.ERROR, logging.StreamHandler())
        late.buffer.append(logging.makeLogRecord({"msg": "flushed at the end"}))
        anyio.run(Orchestrator.from_config().run)
        assert not attached.closed and not loose.closed
        assert logging._handlers["console"] is attached
        """,
        fresh=True,
    )

    assert ended.code == 0, ended.stderr
    assert "flushed at the end" in ended.stderr


def test_a_placeholder_is_no_way_to_the_hosts_log(tmp_path: Path) -> None:
    """A logger above others that existed has its handlers for the block, and the level never."""
    ini = LOGGING_INI.replace("handlers =\nqualname = alembic", "handlers = console\nqualname = up")
    code = f"""{dedent(CONFIGURATIONS["fileConfig"])}
import logging
assert logging.getLogger("up").handlers and logging.getLogger("up").propagate
assert logging.getLogger("up").level == logging.NOTSET
logging.getLogger("up.host").info("told by the host")
"""
    env = ENV_PY.replace("from sqlalchemy", f"{code}\nfrom sqlalchemy", 1)
    project = existing(tmp_path, env=env, ini=INI + ini)
    project.revision("r1", None)

    ended = project.python(
        """
        import logging
        import anyio
        from orchestrator import Orchestrator

        logging.getLogger("up.host")
        anyio.run(Orchestrator.from_config().run)
        up = logging.getLogger("up")
        assert up.level == logging.NOTSET and not up.handlers and not up.disabled
        """
    )

    assert ended.code == 0, ended.stderr
    assert "told by the host" not in ended.stderr


def test_what_the_host_gets_is_its_own_to_decide(tmp_path: Path) -> None:
    """A configurator's level of a new logger counts where it has handlers of its own."""
    levels = "{'sqlalchemy.engine': {'level': 'INFO'}, 'alembic': {'level': 'INFO'}}"
    code = f"logging.config.dictConfig({{'version': 1, 'loggers': {levels}}})"
    project = existing(tmp_path, env=f"import logging, logging.config\n{code}\n{ENV_PY}")
    project.revision("r1", None)

    ended = project.python(
        """
        import logging
        import anyio
        from orchestrator import Orchestrator

        logging.getLogger().addHandler(logging.StreamHandler())
        anyio.run(Orchestrator.from_config().run)
        logging.getLogger("alembic.runtime.migration").info("told by alembic")
        logging.getLogger("sqlalchemy.engine.Engine").info("told by sqlalchemy")
        """
    )

    assert ended.code == 0, ended.stderr
    assert not ended.stderr


def test_modules_that_scripts_import_first_are_not_silenced(tmp_path: Path) -> None:
    """A configurator disables what its configuration does not name; here it does not."""
    code = f"""
import logging
logging.getLogger("models")
{dedent(CONFIGURATIONS["fileConfig"])}
assert not logging.getLogger("models").disabled
"""
    env = ENV_PY.replace("from sqlalchemy", f"{code}\nfrom sqlalchemy", 1)
    project = existing(tmp_path, env=env, ini=INI + LOGGING_INI)
    project.revision("r1", None)

    assert_ready(project.run("run", "--json"), "r1")


@pytest.mark.parametrize(
    "code",
    [
        "logging.config.dictConfig({'version': 2})",
        "logging.config.fileConfig('absent.ini')",
        "logging.basicConfig(level='no such level')",
    ],
)
def test_a_configurator_that_raises_raises(tmp_path: Path, code: str) -> None:
    """As with the `alembic` command: what is wrong with a configuration is told."""
    project = existing(tmp_path, env=f"import logging, logging.config\n{code}\n{ENV_PY}")
    project.revision("r1", None)

    assert_failed(project.run("run", "--json"), "ConfigurationError", "env.py")


def test_other_threads_configure_as_ever(tmp_path: Path) -> None:
    """While `env.py` runs in its thread, a configuration in another one takes effect."""
    project = existing(tmp_path)
    project.revision(
        "r1",
        None,
        """
        import logging, threading
        thread = threading.Thread(target=lambda: logging.basicConfig(level=5, force=True))
        thread.start()
        thread.join()
        assert logging.getLogger().level == 5
        logging.basicConfig(level=7, force=True)
        assert logging.getLogger().level == 5
        """,
    )

    ended = project.run("run")

    assert ended.code == 0, ended.stderr
