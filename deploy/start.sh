#!/bin/sh
# Start of a container or a service: migrate, or wait for whoever does, then serve.
#
# `set -e` stops the start with the exit code of what failed; `exec` gives the server this process,
# and with it the signals.
set -e
orchestrator run
exec uvicorn main:app --host "${HOST:-0.0.0.0}" --port "${PORT:-8000}" --workers "${WORKERS:-4}"
