"""The test suite; mirrors `orchestrator/`."""
