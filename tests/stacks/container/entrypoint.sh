#!/bin/sh
# The entrypoint of an image: the first container migrates, all others wait for it.
set -e
orchestrator run
exec uvicorn app:app --host 127.0.0.1 --port "$PORT"
