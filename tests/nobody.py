"""Runs the command line as a user to whom nothing belongs, in a project that all can reach."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.projects import Finished, Project, make_project
from tests.zygote import shared_zygote

NOBODY = 65534

# A child of the zygote has imported all it needs: the interpreter may lie where nobody can read.
BECOME = f"""
import os

if os.geteuid() == 0:
    os.setgroups([])
    os.setgid({NOBODY})
    os.setuid({NOBODY})
"""


@contextmanager
def public_project() -> Iterator[Project]:
    """A project in a directory that every user can reach.

    pytest's own are for its own user only, and to open those above would open them for all tests
    that run beside this one.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        path.chmod(0o755)
        yield make_project(path)


def run_as_nobody(project: Project, *arguments: str, **variables: str) -> Finished:
    """Run the command as that user, if this one may become it; else as this one."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as prelude:
        prelude.write(BECOME)
        prelude.flush()
        [process] = shared_zygote().start(
            project, *arguments, prelude=Path(prelude.name), HOME=str(project.path), **variables
        )
        return process.finish()
