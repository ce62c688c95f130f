"""The usual recipe against simultaneous starts: who cannot make the directory skips the work.

Written for this benchmark after what such code does; run in a project's directory.
"""

import os
import sys

from alembic import command
from alembic.config import Config


def migrate() -> None:
    """Migrate, unless somebody else is at it."""
    try:
        os.mkdir("app.db.lock")
    except FileExistsError:
        return
    try:
        command.upgrade(Config("alembic.ini"), "heads")
    finally:
        os.rmdir("app.db.lock")


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    migrate()
