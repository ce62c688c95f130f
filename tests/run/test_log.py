"""The log: each event is told once, by the way that the application has for it."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
from typing import Any

import pytest

from orchestrator.events import RunCancelled
from orchestrator.journal.writer import Origin
from orchestrator.run.log import log_sink
from tests.projects import Finished, Project
from tests.zygote import shared_zygote

RUN = """
import anyio
from orchestrator import Orchestrator, OrchestratorError, Settings

try:
    anyio.run(Orchestrator(Settings()).run)
except OrchestratorError:
    raise SystemExit(1) from None
raise SystemExit(0)
"""

TO_STDOUT = """
import logging
import logging.config
import sys
"""

BASIC_CONFIG = f"""{TO_STDOUT}
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(name)s %(message)s")
"""

DICT_CONFIG = """
logging.config.dictConfig({{
    "version": 1,
    "disable_existing_loggers": {disables},
    "formatters": {{"plain": {{"format": "%(name)s %(message)s"}}}},
    "handlers": {{
        "out": {{"class": "logging.StreamHandler", "stream": sys.stdout, "formatter": "plain"}}
    }},
    {loggers}
}})
"""
ROOT = '"root": {"level": "INFO", "handlers": ["out"]},'
ITS_OWN = '"loggers": {"orchestrator": {"level": "INFO", "handlers": ["out"]}},'

STANDARD = {
    "basicConfig": BASIC_CONFIG,
    "dictConfig, root": TO_STDOUT + DICT_CONFIG.format(disables=False, loggers=ROOT),
    "dictConfig, orchestrator": TO_STDOUT + DICT_CONFIG.format(disables=False, loggers=ITS_OWN),
    # By default it disables every logger that is there already: none of ours is.
    "dictConfig, which disables": "import orchestrator.cli\n"
    + TO_STDOUT
    + DICT_CONFIG.format(disables=True, loggers=ROOT),
}

STRUCTLOG_JSON = """
import structlog

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.JSONRenderer(),
    ],
    wrapper_class=structlog.make_filtering_bound_logger(20),
)
structlog.contextvars.bind_contextvars(service="catalogue")
"""

STRUCTLOG_STANDARD = """
import logging
import sys

import structlog

structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.filter_by_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
    ],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.{wrapper},
)
handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(
    structlog.stdlib.ProcessorFormatter(
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ]
    )
)
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel(logging.INFO)
structlog.contextvars.bind_contextvars(service="catalogue")
"""

STRUCTLOG_RENAMED = """
import structlog

structlog.configure(
    processors=[
        structlog.processors.add_log_level,
        structlog.processors.EventRenamer("message", "_event"),
        structlog.processors.JSONRenderer(),
    ],
)
"""

STRUCTLOG_AS_EXTRA = """
import logging
import sys

import structlog

structlog.configure(
    processors=[structlog.stdlib.filter_by_level, structlog.stdlib.render_to_log_kwargs],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
)
logging.basicConfig(
    level=logging.INFO,
    stream=sys.stdout,
    format="%(name)s %(message)s %(error_message)s",
)
logging.getLogger("alembic").disabled = True
logging.setLogRecordFactory(
    lambda *a, factory=logging.getLogRecordFactory(), **k: factory(*a, **k)
)


class Default(logging.Filter):
    def filter(self, record):
        record.__dict__.setdefault("error_message", "-")
        return not record.name.startswith("alembic")


logging.getLogger().handlers[0].addFilter(Default())
"""

WITHOUT_ARGUMENTS = """
import structlog

structlog.configure(logger_factory=lambda: structlog.PrintLogger())
"""

STRUCTLOG = {
    "JSON on stdout": STRUCTLOG_JSON,
    "into the standard library": STRUCTLOG_STANDARD.format(wrapper="BoundLogger"),
    "asynchronous": STRUCTLOG_STANDARD.format(wrapper="AsyncBoundLogger"),
}

ONLY_WRITES = """
import sys
import types

sys.stderr = types.SimpleNamespace(write=lambda _: 0, flush=lambda: None)
"""

EVENTS = [
    "run_started",
    "lock_acquired",
    "state_observed",
    "plan_made",
    "task_started",
    "revision_started",
    "revision_applied",
    "task_succeeded",
    "lock_released",
    "database_ready",
]
"""Those of a first run with one revision."""


def application(
    project: Project, configuration: str = "", run: str = RUN, **variables: str
) -> Finished:
    """A process of an application that configures its logging so, and then runs."""
    script = project.write("application.py", "")
    script.write_text(configuration + run)
    return shared_zygote().start(project, prelude=script, **variables)[0].finish()


class TestWhereNobodyListens:
    """No handler would get the events: a line a milestone on stderr."""

    def test_a_first_start_and_the_next(self, project: Project) -> None:
        """One line each, and nothing on stdout, which may be somebody's data."""
        project.chain(2)

        first, second = application(project), application(project)

        assert (first.code, first.stdout, second.stdout) == (0, "", "")
        (line,) = first.stderr.splitlines()
        assert re.fullmatch(r"orchestrator: migrated base → r2 in \d+\.\d\d s", line)
        assert second.stderr == "orchestrator: already at r2\n"

    def test_a_failure_in_words(self, project: Project) -> None:
        """The first line of the error, and no traceback."""
        project.revision("r1", None, "raise ValueError('no')")

        done = application(project)

        assert done.code == 1
        (line,) = done.stderr.splitlines()
        assert line.startswith("orchestrator: failed: The upgrade failed at revision r1")
        assert "ValueError: no" in line

    def test_a_handler_that_throws_away_counts_for_none(self, project: Project) -> None:
        """Libraries are told to add a NullHandler; it shows nobody anything."""
        project.chain(1)
        silent = "import logging\nlogging.getLogger().addHandler(logging.NullHandler())\n"

        assert "orchestrator: migrated" in application(project, silent).stderr

    def test_a_terminal_that_knows_only_ascii(self, project: Project) -> None:
        """The arrow is one of two signs then."""
        project.chain(1)

        done = application(project, "import sys\nsys.stderr.reconfigure(encoding='ascii')\n")

        assert "migrated base -> r1" in done.stderr

    @pytest.mark.parametrize(
        "gone",
        [
            "import os\nos.close(2)\n",
            "import sys\nsys.stderr = None\n",
            "import os\nr, w = os.pipe()\nos.close(r)\nos.dup2(w, 2)\n",
            "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 2)\n",
            "import sys\nsys.stderr.close()\n",
            ONLY_WRITES,
        ],
        ids=["closed", "none", "broken pipe", "full", "closed object", "another object"],
    )
    @pytest.mark.parametrize("log", ["auto", "console", "json"])
    def test_a_stderr_that_takes_nothing_stops_nothing(
        self, project: Project, gone: str, log: str
    ) -> None:
        """The words are lost, and nothing else."""
        project.chain(1)
        run = RUN.replace("raise SystemExit(0)", "import os\nos._exit(0)")

        assert application(project, gone, run, ORCHESTRATOR_LOG=log).code == 0
        assert project.run("status", "--check").code == 0


def told_by_us(done: Finished) -> list[list[str]]:
    """The words of each line on stdout but those of Alembic's own loggers."""
    lines = [line.split() for line in done.stdout.splitlines()]
    return [words for words in lines if not words[0].startswith("alembic")]


class TestStandardLogging:
    """An application that has configured the standard library's logging."""

    @pytest.mark.parametrize("configuration", STANDARD.values(), ids=STANDARD)
    def test_gets_the_events_once(self, project: Project, configuration: str) -> None:
        """Through the logger `orchestrator`, each event one line; nothing on stderr."""
        project.chain(1)

        done = application(project, configuration)

        assert (done.code, done.stderr) == (0, "")
        assert [words[1] for words in told_by_us(done)] == EVENTS

    def test_a_handler_that_raises_stops_nothing(self, project: Project) -> None:
        """Nor does it when it is told of its own failure."""
        project.chain(1)
        raising = (
            "import logging\n\n\n"
            "class Raising(logging.Handler):\n"
            "    def emit(self, record):\n"
            "        if record.name == 'orchestrator':\n"
            "            raise RuntimeError('of the handler')\n\n\n"
            "logging.basicConfig(level=logging.INFO, handlers=[Raising()])\n"
        )

        done = application(project, raising)

        assert done.code == 0, done
        assert project.journal()[-1]["event"] == "database_ready"

    def test_a_record_has_the_fields(self, project: Project) -> None:
        """For who makes JSON of records: under the attribute `orchestrator`."""
        project.chain(1)
        configuration = BASIC_CONFIG.replace("%(message)s", "%(orchestrator)s").replace(
            "logging.basicConfig",
            "logging.getLogger('alembic').disabled = True\nlogging.basicConfig",
        )

        lines = application(project, configuration).stdout.splitlines()

        told = [ast.literal_eval(line.partition(" ")[2]) for line in lines if "run_id" in line]
        assert [one["event"] for one in told] == EVENTS
        assert {one["database"] for one in told} == {project.url}

    def test_levels_are_respected(self, project: Project) -> None:
        """At WARNING a start that succeeds says nothing, and one that fails says why."""
        project.chain(1)
        configuration = BASIC_CONFIG.replace("INFO", "WARNING")

        well = application(project, configuration)
        project.revision("r2", "r1", "raise ValueError('no')")
        badly = application(project, configuration)

        assert (well.stdout, well.stderr) == ("", "")
        assert [words[1] for words in told_by_us(badly)] == ["task_failed", "run_failed"]
        assert badly.stderr == ""

    def test_a_logger_that_was_disabled_afterwards_is_made_up_for(self, project: Project) -> None:
        """The second run of a process still says something."""
        project.chain(1)
        disabled = DICT_CONFIG.format(disables=True, loggers=ROOT)
        twice = f"{BASIC_CONFIG}{RUN.replace('raise SystemExit(0)', '')}\n{disabled}"

        done = application(project, twice)

        assert done.code == 0
        assert done.stdout.count("database_ready") == 1
        assert done.stderr == "orchestrator: already at r1\n"


class TestStructlog:
    """An application that has configured structlog."""

    @pytest.mark.parametrize("configuration", STRUCTLOG.values(), ids=STRUCTLOG)
    def test_gets_the_events_once_with_their_fields(
        self, project: Project, configuration: str
    ) -> None:
        """Through its own configuration, with what it has bound; nothing on stderr."""
        project.chain(1)

        done = application(project, configuration)

        assert (done.code, done.stderr) == (0, "")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        told = [one for one in lines if "service" in one and one["event"] in EVENTS]
        assert [one["event"] for one in told] == EVENTS
        assert {one["service"] for one in told} == {"catalogue"}
        assert not [
            one for one in lines if "orchestrator" in one.get("logger", "") and one not in told
        ]
        assert {one["level"] for one in told} == {"info"}
        assert len({one["run_id"] for one in told}) == 1
        assert [one["sequence"] for one in told] == list(range(len(EVENTS)))
        assert told[-1]["versions"] == ["r1"]

    @pytest.mark.parametrize(
        "configuration", [STRUCTLOG_RENAMED, STRUCTLOG_AS_EXTRA], ids=["renamed", "as extra"]
    )
    def test_the_words_of_a_failure_arrive(self, project: Project, configuration: str) -> None:
        """Also where the event's name becomes the `message`, or every field one of a record."""
        project.revision("r1", None, "raise ValueError('no')")

        done = application(project, configuration)

        failed = [line for line in done.stdout.splitlines() if "run_failed" in line]
        assert len(failed) == 1, done
        assert "ValueError: no" in failed[0]
        assert "left out" not in done.stdout + done.stderr

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_that_cannot_be_had_is_made_up_for(self, project: Project, backend: str) -> None:
        """A factory without arguments, a wrapper for asyncio under trio: the start goes on."""
        project.chain(1)
        asynchronous = STRUCTLOG_STANDARD.format(wrapper="AsyncBoundLogger")
        configuration = WITHOUT_ARGUMENTS if backend == "asyncio" else asynchronous
        run = RUN.replace("(Settings()).run)", f"(Settings()).run, backend={backend!r})")

        done = application(project, configuration, run)

        assert done.code == 0, done
        assert "database_ready" in done.stdout or "orchestrator: migrated" in done.stderr

    def test_that_is_only_imported_gets_nothing(self, project: Project) -> None:
        """Many a library imports it; what is not configured is nobody's choice."""
        project.chain(1)

        done = application(project, "import structlog\n")

        assert done.stdout == ""
        assert done.stderr.startswith("orchestrator: migrated")


def entries(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


class TestChosen:
    """The setting `log`, whatever the application has configured."""

    def test_json_is_what_the_journal_has(self, project: Project) -> None:
        """Every event a line on stderr, with the same fields; nothing else there."""
        project.chain(1)

        done = application(project, BASIC_CONFIG, ORCHESTRATOR_LOG="json")

        assert told_by_us(done) == []
        assert entries(done.stderr) == project.journal()

    @pytest.mark.parametrize("fails", [False, True])
    def test_json_of_a_command(self, project: Project, fails: bool) -> None:
        """`--log json`: nothing but events, for a collector; the exit code tells the rest."""
        project.chain(1)
        if fails:
            project.revision("r2", "r1", "raise ValueError('no')")

        done = project.run("run", "--log", "json")

        assert (done.code, done.stdout) == (int(fails), "")
        assert entries(done.stderr) == project.journal()

    def test_json_beside_a_document(self, project: Project) -> None:
        """With `--json` the result is the one document on stdout all the same."""
        project.chain(1)

        done = project.run("run", "--log", "json", "--json")

        assert done.json["outcome"] == "ready"
        assert entries(done.stderr) == project.journal()

    def test_json_is_ascii(self, project: Project) -> None:
        """So that a line is JSON whatever stderr's encoding is."""
        project.revision("r1", None, "raise ValueError('é ß \\x1b[31m 漢')")

        done = project.run("run", "--log", "json", PYTHONIOENCODING="ascii")

        assert done.stderr.isascii()
        assert "é ß" in entries(done.stderr)[-1]["message"]

    @pytest.mark.parametrize("how", [["-q"], ["-q", "--log", "console"], ["--log", "off"]])
    def test_a_quiet_command_prints_its_result(self, project: Project, how: list[str]) -> None:
        """Neither progress nor events, whatever `log` says; off is as quiet."""
        project.chain(1)

        done = project.run("run", *how)

        assert done.stderr == ""
        assert done.stdout.startswith("ready at r1")

    def test_console_is_for_people(self, project: Project) -> None:
        """A line an event, with its fields, without colours in a pipe."""
        project.chain(1)

        done = application(project, BASIC_CONFIG, ORCHESTRATOR_LOG="console")

        assert told_by_us(done) == []
        assert "\x1b" not in done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == len(EVENTS)
        assert "revision_applied" in lines[6]
        assert "revision=r1" in lines[6]

    def test_off_is_silence(self, project: Project) -> None:
        """Neither the application's logging nor stderr; the journal has it all the same."""
        project.chain(1)

        done = application(project, BASIC_CONFIG, ORCHESTRATOR_LOG="off")

        assert (told_by_us(done), done.stderr) == ([], "")
        assert [line["event"] for line in project.journal()] == EVENTS

    @pytest.mark.parametrize(
        ("variables", "coloured"),
        [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
    )
    def test_colours_are_for_terminals_that_want_them(
        self, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], coloured: bool
    ) -> None:
        """As the progress display has it."""
        for name in ("NO_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        terminal = io.StringIO()
        terminal.isatty = lambda: True  # type: ignore[method-assign]
        monkeypatch.setattr(sys, "stderr", terminal)
        sink = log_sink("console", lambda: Origin(host="h", pid=1, database="d", release=None))
        assert sink is not None

        sink(RunCancelled(applied=()))

        assert ("\x1b" in terminal.getvalue()) is coloured

    def test_a_command_is_its_own_log(self, project: Project) -> None:
        """By default it shows how it goes, and no milestone besides."""
        project.chain(1)

        done = project.run("run")

        assert "orchestrator: " not in done.stderr
        assert done.stdout.startswith("ready at r1")

    def test_no_password(self, project: Project) -> None:
        """Neither form tells a secret of the URL."""
        project.chain(1)
        url = f"sqlite:///{project.database}?password=hunter2hunter2"
        for log in ("json", "console", "auto"):
            done = application(project, ORCHESTRATOR_LOG=log, ORCHESTRATOR_DATABASE_URL=url)
            assert "hunter2" not in done.stdout + done.stderr

    @pytest.mark.parametrize(
        "raised",
        ["ValueError(url)", "ConfigurationError(url)", "TaskFailed(url, task='x')"],
    )
    @pytest.mark.parametrize(
        "password", ["hunter2hunter2", "hunter%322hunter2", "hun ter+2hunter2"]
    )
    def test_no_password_that_a_revision_tells(
        self, project: Project, raised: str, password: str
    ) -> None:
        """Neither the log, nor the journal, nor the record has it, whatever is raised."""
        project.revision(
            "r1",
            None,
            "import os\nfrom orchestrator import ConfigurationError, TaskFailed\n"
            f"url = os.environ['ORCHESTRATOR_DATABASE_URL']\nraise {raised}",
        )
        url = f"sqlite:///{project.database}?password={password}"

        done = application(project, BASIC_CONFIG, ORCHESTRATOR_DATABASE_URL=url)

        kept = [(project.state / name).read_text() for name in ("journal.jsonl", "run.json")]
        assert done.code == 1
        assert not [text for text in (done.stdout, done.stderr, *kept) if "hunter2" in text]

    def test_no_terminal_escape(self, project: Project) -> None:
        """What a script tells cannot drive a terminal."""
        project.revision("r1", None, "raise ValueError('a\\x1b[31mred\\x1b]0;title\\x07')")

        for configuration in ("", BASIC_CONFIG):
            done = application(project, configuration)
            assert "ValueError: a" in done.stdout + done.stderr
            assert "\x1b" not in done.stdout + done.stderr
