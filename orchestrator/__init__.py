"""An async migration orchestrator for Alembic: one process migrates, all others wait.

>>> orchestrator = Orchestrator(Settings(database_url="sqlite:///app.db"))
>>> orchestrator.settings.target
'heads'
"""

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
from orchestrator.results import AppliedRevision, Holder, Inspection, Preview, RunReport
from orchestrator.settings import Settings

__all__ = [
    "AppliedRevision",
    "ConfigurationError",
    "DatabaseReady",
    "DatabaseState",
    "DatabaseUnavailable",
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
