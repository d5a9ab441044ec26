"""The workflows run make targets that exist, and actions that are pinned by commit."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TARGETS = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
WORKFLOWS = {path.name: path.read_text() for path in (ROOT / ".github/workflows").glob("*.yml")}


def test_workflows_run_existing_targets() -> None:
    text = "\n".join(WORKFLOWS.values())
    named = re.findall(r"\bmake ([a-z][a-z0-9-]*)", text)
    for matrix in re.findall(r"target: \[(.*)\]", text):
        named += matrix.split(", ")
    assert {"lint", "test", "wheels"} <= set(named) <= TARGETS


def test_actions_are_pinned_by_commit() -> None:
    for name, text in WORKFLOWS.items():
        used = re.findall(r"uses: (.*)", text)
        assert used, name
        for action in used:
            assert re.fullmatch(r"[\w/.-]+@[0-9a-f]{40} # v[\d.]+", action), action
