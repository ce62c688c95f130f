"""Gunicorn with uvicorn's workers, before an application with the gate: `gunicorn -c … main:app`.

Each worker runs the gate: one of them migrates, on whatever host, the others wait; all serve at
once, and let nobody in before the database is ready.
"""

import os

bind = f"{os.environ.get('HOST', '0.0.0.0')}:{os.environ.get('PORT', '8000')}"  # noqa: S104
workers = int(os.environ.get("WORKERS", "4"))
worker_class = "uvicorn_worker.UvicornWorker"
# The event loop answers gunicorn's own sign of life while a migration runs in its thread, so that
# this need not be as long as one.
timeout = 60
# As long as a revision may take: a worker that is told to stop finishes the one that it is at.
graceful_timeout = int(os.environ.get("GRACE_SECONDS", "300"))
# The application is imported in each worker; a gate that was begun before the fork is none.
preload_app = False
