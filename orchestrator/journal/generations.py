"""The generations of a journal: the file of its name, and the one that had the name before."""

from __future__ import annotations

from pathlib import Path


def older(path: Path) -> Path:
    """The older generation of a journal; it is there once the journal has been rotated."""
    return Path(f"{path}.1")
