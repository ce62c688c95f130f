"""The plain `alembic` command, as the prelude of a forked process: it is run instead."""

import sys

from alembic.config import main

sys.exit(main(sys.argv[1:], prog="alembic"))
