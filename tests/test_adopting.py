"""`docs/adopting.md` holds nothing that is not run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
BY_TESTS = {
    "pip install ./orchestrator",  # tests/stacks/run.py installs the checkout
    "orchestrator status",  # tests/compat/test_templates.py
    "orchestrator run",
    'orchestrator revision --autogenerate -m "second"',  # tests/compat/test_authoring.py
    "orchestrator history -i",
    "orchestrator init --metadata models:metadata",  # tests/cli/test_init.py
    'orchestrator revision --autogenerate -m "first"',
}


def test_every_example_is_run() -> None:
    """Each block of code stands in a project that `make test-stacks` runs; commands in a test."""
    stacks = [
        path.read_text()
        for path in (ROOT / "tests" / "stacks").rglob("*")
        if path.suffix in (".py", ".toml", ".ini", ".sh")
    ]
    blocks = list(BLOCK.finditer((ROOT / "docs" / "adopting.md").read_text()))

    assert len(blocks) > 10
    for block in blocks:
        text = block["text"]
        if block["language"] == "console":
            assert {line.removeprefix("$ ") for line in text.splitlines()} <= BY_TESTS
        else:
            assert any(text in stack for stack in stacks), text
