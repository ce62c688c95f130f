"""Fixtures for projects that exist already."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.projects import Finished, Project
from tests.zygote import Zygote


@pytest.fixture
def run(zygote: Zygote) -> Callable[..., Finished]:
    """Run the command line in a project, forked: `run(project, "run", "--json")`."""

    def run(project: Project, *arguments: str) -> Finished:
        (ended,) = zygote.run(project, *arguments, processes=1)
        return ended

    return run
