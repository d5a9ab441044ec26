"""The documents are true: code blocks run, links and paths exist, defaults are as stated."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import bytepool

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def check_shell(example: Example) -> None:
    """Check that shell blocks name targets of the Makefile. ``.ci/run`` runs the targets."""
    for line in example.parsed.splitlines():
        program, target = line.split()
        assert program == "make"
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


PARSERS: list[Any] = [PythonCodeBlockParser(), CodeBlockParser("sh", check_shell)]


def languages(document: Path) -> set[str]:
    """The languages of the document's code blocks that a test runs."""
    # `cargo test` runs the Rust blocks of this file: src/lib.rs includes it in the doctests.
    return {"python", "sh", "rust"} if document.name == "rust.md" else {"python", "sh"}


def without_code(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


def anchors(document: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_code(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_code_blocks_run(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    examples = list(Sybil(PARSERS).parse(document))
    for example in examples:
        example.evaluate()
    capsys.readouterr()
    blocks = [line[3:].strip() for line in document.read_text().splitlines() if line[:3] == "```"]
    found = blocks[::2]
    assert set(found) <= languages(document), "no test runs blocks in this language"
    assert len(examples) >= sum(language != "rust" for language in found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_links_and_paths_exist(document: Path) -> None:
    text = without_code(document)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        if path.startswith("https:"):
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    for path in re.findall(r"`((?:src|tests|scripts|docs|benches|examples|fuzz)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_reference_states_the_defaults() -> None:
    assert f"`{bytepool.Pool()!r}`" in (ROOT / "docs/reference.md").read_text()
