"""The house: imports go down the floors only, with no circles, not even in functions."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import orchestrator
from tests.projects import Project

ROOT = Path(orchestrator.__file__).parent

HOUSE = """
    -- what users import
    1   results          RunReport, AppliedRevision, Ended, …
    1   errors           one root; every child carries data and an exit code
    2   events           every event, and its way to and from dictionaries
    3   settings/        defaults < TOML < environment < arguments
    7   orchestrator     Orchestrator, Run
    8   lifespan         the lifespan of a Starlette or FastAPI application
    8   environment      for env.py: run_migrations()
    8   __init__         the supported names
    -- how a run goes
    2   timeline/        entries of a journal → runs, starts, the rows of a picture: pure
    3   decision/        what was observed → what is done: pure
    3   journal/         writer, reader, follower, starts
    3   locks/           the protocol, the file lock, the one loop that waits
    3   databases/       the seam, URLs, SQLite
    4   host/            what the processes of one host share
    4   revisions/       Alembic, as it is: scripts, the pass of env.py, its transactions
    5   tasks/           create, stamp, upgrade, downgrade: one file each
    6   telemetry/       spans and metrics of a run, for those who collect them
    6   run/             runner, contender, leader, follower, …
    -- doors: nothing imports them
    9   asgi/            alive while migrating: the gate before an application
    9   cli/             one file a command group; logs/ is a folder of its own
    9   __main__         python -m orchestrator
"""
"""The listing of `orchestrator/`, with the floor of each module and room.

It reads like the drawing in the design. A new module or room chooses its floor here.
"""

LEVEL: dict[str, set[str]] = {
    "errors": {"results"},  # an error carries what was applied all the same
    "databases": {"locks"},  # the seam gives out a lock
    "timeline": {"events"},  # how far a run is
    "__main__": {"cli"},
}
"""Who may import what is on the same floor."""

FLOORS = {
    name.rstrip("/"): int(floor)
    for floor, name in re.findall(r"^ +(\d) +([\w/]+)", HOUSE, re.MULTILINE)
}
DOORS = ("environment", "lifespan", "asgi", "cli")
FIRST_DOOR = 8

ALLOWED: dict[str, set[str]] = {
    "alembic": {"revisions", "environment"},
    "fastapi": {"lifespan"},
    "starlette": {"lifespan"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "pytest": set(),
    "structlog": {"run"},
    "portalocker": {"locks"},
    "opentelemetry": {"telemetry", "cli"},
    "prometheus_client": {"telemetry"},
    "pydantic": {"settings"},
    "pydantic_core": {"journal"},
    "sqlite3": {"databases", "revisions.transactions"},
}
"""Which of our modules may import a library, TYPE_CHECKING included."""

KINDS = re.compile(r"sqlite|postgres|psycopg|mysql|mariadb", re.IGNORECASE)
KNOW_KINDS = ("databases", "revisions.transactions")
"""Where it is known which databases there are: one file in each, and a row in their tables."""

EXAMPLES = {"cli.commands.init": {"sqlite:///app.db"}}
"""Texts for people, elsewhere, that name a database as an example."""


def name_of(file: Path) -> str:
    """The dotted name below `orchestrator`; a package goes by its own name."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1]) if len(parts) > 1 and parts[-1] == "__init__" else ".".join(parts)


MODULES = {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}


def top(module: str) -> str:
    """The part of a module's name that the listing of the house knows."""
    return module.partition(".")[0]


@cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a file, which many tests walk."""
    return ast.parse(file.read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports anywhere: at its top, in a function, for types only."""
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


@cache
def own_imports(module: str) -> frozenset[str]:
    """What a module imports of `orchestrator`, as names of `MODULES`."""
    found = set()
    for imported in imports(MODULES[module]):
        package, _, rest = imported.partition(".")
        if package != "orchestrator":
            continue
        while rest and rest not in MODULES:
            rest = rest.rpartition(".")[0]
        found.add(rest or "__init__")
    return frozenset(found - {module})


def within(module: str, places: Collection[str]) -> bool:
    """Whether a module is one of these, or lies in one of them."""
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_the_listing_is_the_house() -> None:
    """Neither more nor less stands directly below `orchestrator` than the table says."""
    assert {top(module) for module in MODULES} == set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down_only(module: str) -> None:
    """No module imports from its own floor or above, but for its own room; nobody a door."""
    room = top(module)

    for imported in own_imports(module):
        other = top(imported)
        below = FLOORS[other] < FLOORS[room] and (FLOORS[other] < FIRST_DOOR or room == "__main__")
        assert below or other == room or other in LEVEL.get(room, ()), (
            f"{module} (floor {FLOORS[room]}) imports {imported} (floor {FLOORS[other]})"
        )


def test_there_are_no_circles() -> None:
    """Modules can be put in one order in which each imports only earlier ones; so can rooms."""
    modules = {module: own_imports(module) for module in MODULES}
    rooms: dict[str, set[str]] = {room: set() for room in FLOORS}
    for module, imported in modules.items():
        rooms[top(module)] |= {top(other) for other in imported} - {top(module)}

    for graph in (modules, rooms):
        assert len(list(TopologicalSorter(graph).static_order())) == len(graph)


@pytest.mark.parametrize("library", ALLOWED)
def test_libraries_are_imported_where_they_belong(library: str) -> None:
    """Each outside thing has one place that talks to it."""
    importers = {
        module
        for module, file in MODULES.items()
        if any(imported.partition(".")[0] == library for imported in imports(file))
    }

    assert all(within(module, ALLOWED[library]) for module in importers), importers


def spoken(file: Path) -> Iterator[tuple[int, str]]:
    """Every name and every text in a file's code, docstrings left out, with its line."""
    tree = parsed(file)
    prose = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.lineno, node.value
        elif isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef | ast.alias):
            yield node.lineno, node.name


@pytest.mark.parametrize("module", [one for one in MODULES if not within(one, KNOW_KINDS)])
def test_nobody_else_asks_which_database_it_is(module: str) -> None:
    """No name and no text outside of the seam is of one kind of database."""
    found = {
        f"line {line}: {text}"
        for line, text in spoken(MODULES[module])
        if KINDS.search(text) and text not in EXAMPLES.get(module, ())
    }
    asked = {
        f"line {line}: {text}"
        for line, text in spoken(MODULES[module])
        if text in ("get_backend_name", "drivername")
    }

    assert not found | asked


def test_the_plan_names_tasks_without_importing_them() -> None:
    """A decision is made without the code that carries it out."""
    assert not {one for one in own_imports("decision.plan") if top(one) == "tasks"}


def python(code: str, *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run code in a new interpreter; returns what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WITHOUT = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if any(name == gone or name.startswith(gone + ".") for gone in {gone!r}):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
for module in {modules!r}:
    importlib.import_module(module)
"""


def full_names(*, without: set[str]) -> list[str]:
    """The modules as they are imported, but for those below the given ones."""
    return [
        "orchestrator" if module == "__init__" else f"orchestrator.{module}"
        for module in MODULES
        if top(module) not in without | {"__main__"}
    ]


@pytest.mark.parametrize("door", DOORS)
def test_without_one_door_the_rest_is_importable(door: str) -> None:
    """Deleting a door breaks nothing else."""
    code = WITHOUT.format(gone=[f"orchestrator.{door}"], modules=full_names(without={door}))

    python(code)


def test_the_library_needs_no_framework() -> None:
    """Without FastAPI, Starlette, Typer, Rich and pytest all but the command line works."""
    gone = ["fastapi", "starlette", "typer", "click", "rich", "pytest"]

    python(WITHOUT.format(gone=gone, modules=full_names(without={"cli"})))


def test_importing_the_library_imports_no_alembic() -> None:
    """Nor any framework nor structlog, which loads Rich where it is installed."""
    loaded = python("from orchestrator import *; import sys; print(*sys.modules)").split()

    assert not {"alembic", "structlog", "fastapi", "starlette", "typer", "pytest"} & set(loaded)


def test_the_package_imports_nothing_before_it_is_asked_for_a_name() -> None:
    """So that the command line's first lines come before all that takes long to import."""
    new = "set(sys.modules) - before"
    loaded = python(f"import sys; before = set(sys.modules); import orchestrator; print(*{new})")

    assert loaded.split() == ["orchestrator"]


STARTS = {
    "library": """
import anyio, orchestrator
report = anyio.run(orchestrator.Orchestrator().run)
assert not report.led, report
""",
    "command": """
from orchestrator.cli import main
sys.argv = ["orchestrator", "run"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
""",
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_warm_start_imports_no_alembic(project: Project, start: str) -> None:
    """At the target, neither the library nor the command loads it."""
    project.chain(1)
    assert project.run("run").code == 0

    loaded = python(
        f"import sys\n{start}\nprint(*sys.modules)", cwd=project.path, env=project.environment()
    )

    assert "orchestrator.run.runner" in loaded.split()
    assert not [name for name in loaded.split() if name.partition(".")[0] == "alembic"]
