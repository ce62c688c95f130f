"""The documents name what is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PATHS = re.compile(r"(?<![\w./])(?:orchestrator|tests|benchmarks|config|docs)/[\w./-]*\w")
LINKS = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_path_and_link_leads_somewhere(document: Path) -> None:
    """Files of this repository that a document names, or links to, exist."""
    text = document.read_text(encoding="utf-8")
    named = {path for path in PATHS.findall(text) if not (ROOT / path).exists()}
    linked = {link for link in LINKS.findall(text) if not (document.parent / link).exists()}

    assert not named | linked
