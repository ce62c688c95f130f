"""The commands, a file for each group of them; those of `orchestrator logs` have a folder."""
