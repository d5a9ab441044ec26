"""Every code block of README.md and docs/ runs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def check_shell(example: Example) -> None:
    """Check that shell blocks name targets of the Makefile. ``.ci/run`` runs the targets."""
    for line in example.parsed.splitlines():
        program, target = line.split()
        assert program == "make"
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


PARSERS: list[Any] = [PythonCodeBlockParser(), CodeBlockParser("sh", check_shell)]
# `cargo test` runs the Rust blocks: src/lib.rs includes the README in its doctests.
LANGUAGES = {"python", "sh", "rust"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_code_blocks_of_the_documents_run(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    examples = list(Sybil(PARSERS).parse(document))
    for example in examples:
        example.evaluate()
    capsys.readouterr()
    blocks = [line[3:].strip() for line in document.read_text().splitlines() if line[:3] == "```"]
    languages = blocks[::2]
    assert set(languages) <= LANGUAGES, "no test runs blocks in this language"
    assert len(examples) >= sum(language != "rust" for language in languages)


def test_readme_states_the_defaults() -> None:
    import bytepool

    assert f"`{bytepool.Pool()!r}`" in (ROOT / "README.md").read_text()
