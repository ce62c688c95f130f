"""An async migration orchestrator for Alembic: one process migrates, all others wait.

>>> from orchestrator import Orchestrator, Settings
>>> orchestrator = Orchestrator(Settings(database_url="sqlite:///app.db"))
>>> orchestrator.settings.target
'heads'
"""

TYPE_CHECKING = False  # as `typing` has it, whose import would come before everything else

if TYPE_CHECKING:
    __version__: str

    from orchestrator.decision.state import DatabaseState
    from orchestrator.errors import (
        ConfigurationError,
        DatabaseUnavailable,
        LockTimeout,
        OrchestratorError,
        PeerFailed,
        StateRefused,
        TaskFailed,
        VerificationFailed,
    )
    from orchestrator.events import DatabaseReady, Event, RunCancelled, RunFailed
    from orchestrator.orchestrator import Orchestrator, Run
    from orchestrator.results import (
        AppliedRevision,
        Check,
        Difference,
        Drop,
        Holder,
        Inspection,
        Preview,
        RunReport,
    )
    from orchestrator.settings import Settings

__all__ = [
    "AppliedRevision",
    "Check",
    "ConfigurationError",
    "DatabaseReady",
    "DatabaseState",
    "DatabaseUnavailable",
    "Difference",
    "Drop",
    "Event",
    "Holder",
    "Inspection",
    "LockTimeout",
    "Orchestrator",
    "OrchestratorError",
    "PeerFailed",
    "Preview",
    "Run",
    "RunCancelled",
    "RunFailed",
    "RunReport",
    "Settings",
    "StateRefused",
    "TaskFailed",
    "VerificationFailed",
]

_HOMES = {
    "decision.state": ["DatabaseState"],
    "errors": [
        "ConfigurationError",
        "DatabaseUnavailable",
        "LockTimeout",
        "OrchestratorError",
        "PeerFailed",
        "StateRefused",
        "TaskFailed",
        "VerificationFailed",
    ],
    "events": ["DatabaseReady", "Event", "RunCancelled", "RunFailed"],
    "orchestrator": ["Orchestrator", "Run"],
    "results": [
        "AppliedRevision",
        "Check",
        "Difference",
        "Drop",
        "Holder",
        "Inspection",
        "Preview",
        "RunReport",
    ],
    "settings": ["Settings"],
}

if not TYPE_CHECKING:  # to a type checker, a module with `__getattr__` would have every name

    def __getattr__(name: str) -> object:
        """Import a supported name when it is first asked for; look up the version.

        Python imports this module before any other of the package, `python -m orchestrator`
        included: until then nobody can say what an interrupt means. All that is imported here
        would be most of what the command line imports.
        """
        if name == "__version__":
            from importlib.metadata import version

            return globals().setdefault(name, version("migration-orchestrator"))
        for module, names in _HOMES.items():
            if name in names:
                from importlib import import_module

                value = getattr(import_module(f"{__name__}.{module}"), name)
                return globals().setdefault(name, value)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
