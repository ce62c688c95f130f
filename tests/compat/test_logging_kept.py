"""`env.py` configures logging; the host application's stays as it is."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from tests.compat.projects import ENV_PY, INI, Existing, assert_ready, existing

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

    ended = host.python(HOST, *CONFIGURATIONS, PYTHONPATH=str(tmp_path))

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

    ended = host.python(HOST, *ways, PYTHONPATH=str(tmp_path))

    assert ended.code == 0, ended.stderr
    assert ended.stdout.splitlines() == [f"{way} ready" for way in ways]


def test_the_command_keeps_its_words(tmp_path: Path) -> None:
    """The console script runs the standard `env.py`; what that configures is not configured."""
    code = CONFIGURATIONS["fileConfig"]
    env = ENV_PY.replace("from sqlalchemy", f"{dedent(code)}\nfrom sqlalchemy", 1)
    project = existing(tmp_path, env=env, ini=INI + LOGGING_INI)
    project.revision("r1", None)

    ended = project.run("run", "--json")

    assert_ready(ended, "r1")
    assert "Context impl" not in ended.stderr


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
