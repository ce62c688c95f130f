"""Fixtures of the whole suite."""

from __future__ import annotations

import gc
import os
import signal
from pathlib import Path

import hypothesis
import pytest

from tests.projects import Project, make_project
from tests.zygote import Zygote, shared_zygote

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Let interrupts be sent to processes of the tests, however the suite was started.

    A shell that starts it in the background has them ignored, and so would all of its children.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Keep what stays to the end out of the collector's way: a tenth of the suite's time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every async test of the library runs on both event loops."""
    return request.param


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables of whoever runs the suite do not reach the tests, nor these his home."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state of user"))
    for name in list(os.environ):
        if name.startswith("ORCHESTRATOR_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def zygote() -> Zygote:
    """What forks the command line where a fresh interpreter is not the point; one a worker."""
    return shared_zygote()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """An Alembic project without revisions yet."""
    return make_project(tmp_path)
