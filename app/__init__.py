"""The reference application: a catalogue of artists, albums and tracks.

FastAPI serves it, ormar and `databases` keep it in SQLite, and `orchestrator` creates and migrates
the database when the application starts, however many workers start at once.
"""

__version__ = "1.0.0"
