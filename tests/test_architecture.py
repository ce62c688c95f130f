"""The layers of the design: imports go downward only, with no cycles, not even in functions."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import orchestrator
from tests.projects import Project

ROOT = Path(orchestrator.__file__).parent

LAYERS: dict[int, set[str]] = {
    1: {"state", "events", "results", "errors", "database_url"},
    2: {"plan", "timeline"},
    3: {
        "settings",
        "alembic_config",
        "state_directory",
        "database",
        "probe",
        "heads",
        "revisions",
        "journal",
        "journal_reader",
        "journal_follower",
        "journal_starts",
        "record",
        "locks",
    },
    4: {
        "broadcast",
        "waiting",
        "tasks",
        "resources",
        "warm",
        "work",
        "leading",
        "peers",
        "publication",
        "inspection",
        "following",
        "threads",
        "runner",
    },
    5: {"orchestrator", "__init__"},
    6: {"environment", "lifespan", "cli", "__main__"},
}
"""The modules and packages directly below `orchestrator`; a new one has to choose its layer."""

DOORS = ("environment", "lifespan", "cli")
ADAPTER_FAMILIES = {
    "journal_reader": "journal",
    "journal_follower": "journal",
    "journal_starts": "journal",
}
"""Adapters that talk to the same outside thing, and may import one another."""

ALLOWED: dict[str, set[str]] = {
    "alembic": {"revisions", "environment"},
    "fastapi": {"lifespan"},
    "starlette": {"lifespan"},
    "typer": {"cli"},
    "click": {"cli"},
    "rich": {"cli"},
    "pytest": set(),
    "structlog": {"journal"},
    "portalocker": {"locks"},
    "pydantic": {"settings"},
    "pydantic_settings": {"settings"},
}
"""Which of our modules may import a library, TYPE_CHECKING included."""


def name_of(file: Path) -> str:
    """The dotted name below `orchestrator`; a package goes by its own name."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1]) if len(parts) > 1 and parts[-1] == "__init__" else ".".join(parts)


MODULES = {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}
LAYER_OF = {name: layer for layer, names in LAYERS.items() for name in names}


def top(module: str) -> str:
    """The part of a module's name that the table of layers knows."""
    return module.partition(".")[0]


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports anywhere: at its top, in a function, for types only."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def own_imports(module: str) -> set[str]:
    """What a module imports of `orchestrator`, as names of `MODULES`."""
    found = set()
    for imported in imports(MODULES[module]):
        package, _, rest = imported.partition(".")
        if package != "orchestrator":
            continue
        while rest and rest not in MODULES:
            rest = rest.rpartition(".")[0]
        found.add(rest or "__init__")
    return found - {module}


def test_every_module_has_a_layer() -> None:
    """The table above is the design's listing, neither more nor less."""
    assert {top(module) for module in MODULES} == set(LAYER_OF)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downward_only(module: str) -> None:
    """No module imports from a layer above its own; doors are imported by nobody."""
    layer = LAYER_OF[top(module)]

    for imported in own_imports(module):
        above = LAYER_OF[top(imported)]
        assert above <= layer, f"{module} (layer {layer}) imports {imported} (layer {above})"
        if above == 6 and module != "__main__":
            assert top(imported) == top(module), f"{module} imports the door {imported}"


def test_there_are_no_cycles() -> None:
    """Modules can be put in one order in which each imports only earlier ones."""
    graph = {module: own_imports(module) for module in MODULES}

    assert len(list(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", [one for one in MODULES if top(one) in LAYERS[3]])
def test_adapters_do_not_know_one_another(module: str) -> None:
    """What an adapter needs from another one is passed in."""

    def family(name: str) -> str:
        return ADAPTER_FAMILIES.get(top(name), top(name))

    others = {
        imported
        for imported in own_imports(module)
        if top(imported) in LAYERS[3] and family(imported) != family(module)
    }

    assert not others


@pytest.mark.parametrize("library", ALLOWED)
def test_libraries_are_imported_where_they_belong(library: str) -> None:
    """Each outside thing has one place that talks to it."""
    importers = {
        top(module)
        for module, file in MODULES.items()
        if any(imported.partition(".")[0] == library for imported in imports(file))
    }

    assert importers <= ALLOWED[library]


def test_the_plan_names_tasks_without_importing_them() -> None:
    """A decision is made without the code that carries it out."""
    assert not {one for one in own_imports("plan") if top(one) == "tasks"}


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
    """Nor any framework (Rich does get loaded: by structlog 25, wherever it is installed)."""
    loaded = python("import orchestrator, sys; print(*sys.modules)").split()

    assert not {"alembic", "fastapi", "starlette", "typer", "pytest"} & set(loaded)


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

    assert "orchestrator.runner" in loaded.split()
    assert not [name for name in loaded.split() if name.partition(".")[0] == "alembic"]
