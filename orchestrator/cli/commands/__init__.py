"""The commands, a file for each group of them; those of `orchestrator logs` have a folder.

A new command is a function in one of these files; a new group is a file with a `register()`, and a
name in `orchestrator/cli/__init__.py`.
"""
