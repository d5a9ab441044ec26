"""The documents are true: code blocks run, links and paths exist, defaults are as stated."""

from __future__ import annotations

import pkgutil
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

import bytepool

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SITE: str = PROJECT["urls"]["Documentation"]
REPOSITORY: str = PROJECT["urls"]["Repository"]


def check_shell(example: Example) -> None:
    """Check that targets, extras and modules exist. ``.ci/run`` runs the targets."""
    for line in example.parsed.splitlines():
        match shlex.split(line, comments=True):
            case ["uvicorn", "--http", protocol, *_]:
                assert pkgutil.resolve_name(protocol)
            case ["make", target]:
                subprocess.run(
                    ["make", "-n", target], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
                )
            case ["git", "clone", url]:
                assert url == REPOSITORY
            case ["cd", folder]:
                assert folder == PROJECT["name"]
            case ["env/bin/python", "-c", code]:
                subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
            case ["pip" | "env/bin/pip", "install", package]:
                name, _, extra = package.rstrip("]").partition("[")
                assert name in (PROJECT["name"], ".")
                assert not extra or extra in PROJECT["optional-dependencies"]
            case ["python" | "python3", "-m", module, *_]:
                assert find_spec(module)
            case words:
                assert words[:2] == ["apt", "install"], line


PARSERS: list[Any] = [PythonCodeBlockParser(), CodeBlockParser("sh", check_shell)]


# Blocks of these documents change settings of the whole process, so they run in one of their own.
OWN_PROCESS = {"recipes.md"}


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


def local(link: str, document: Path) -> tuple[Path, str] | None:
    """The file that a link points to and its anchor; None if it is not of this project."""
    path, _, anchor = link.partition("#")
    if path.startswith(SITE):
        page = path.removeprefix(SITE).rstrip("/") or "index"
        path = f"docs/{page}" if Path(page).suffix else f"docs/{page}.md"
    elif path.startswith(REPOSITORY):
        path = re.sub("^/(blob|tree)/main", "", path.removeprefix(REPOSITORY)).strip("/")
        if path in ("issues", "security/advisories/new"):  # pages without a file
            return None
    elif ":" in path:
        return None
    else:
        return (document.parent / path if path else document), anchor
    return ROOT / path, anchor


def run_blocks(document: Path) -> int:
    """Run all code blocks of the document, and return their number."""
    examples = list(Sybil(PARSERS).parse(document))
    for example in examples:
        example.evaluate()
    return len(examples)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_code_blocks_run(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if "uvicorn" in document.read_text() and sys.version_info >= (3, 15):
        pytest.importorskip("httptools", reason="it cannot be built for this CPython yet")
    if document.name in OWN_PROCESS:
        code = "import sys, pathlib, test_docs as t; print(t.run_blocks(pathlib.Path(sys.argv[1])))"
        done = subprocess.run(
            [sys.executable, "-c", code, str(document)],
            cwd=ROOT / "tests",
            check=True,
            stdout=subprocess.PIPE,
        )
        count = int(done.stdout.split()[-1])
    else:
        count = run_blocks(document)
    capsys.readouterr()
    blocks = [line[3:].strip() for line in document.read_text().splitlines() if line[:3] == "```"]
    found = blocks[::2]
    assert set(found) <= languages(document), "no test runs blocks in this language"
    assert count >= sum(language != "rust" for language in found)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.name))
def test_links_and_paths_exist(document: Path) -> None:
    text = without_code(document)
    for link in re.findall(r"\]\(([^)]+)\)", text):
        if found := local(link, document):
            target, anchor = found
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    for path in re.findall(r"`((?:src|tests|scripts|docs|benches|examples|fuzz)/[\w./-]*)`", text):
        assert (ROOT / path).exists(), path


def test_the_readme_has_only_absolute_links() -> None:
    """A package index shows the README, and knows no other file of the repository."""
    links = re.findall(r"\]\(([^)]+)\)", without_code(ROOT / "README.md"))
    assert links
    assert all(link.startswith("https:") for link in links)


def test_all_files_state_the_same_addresses_and_version() -> None:
    crate = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]
    assert (crate["homepage"], crate["repository"]) == (SITE, REPOSITORY)
    assert SITE in (bytepool.__doc__ or "")
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"repository-code: {REPOSITORY}\n" in citation
    assert f"version: {crate['version']}\n" in citation
    assert f"## {crate['version']} (" in (ROOT / "CHANGELOG.md").read_text()
    site = (ROOT / "mkdocs.yml").read_text()
    assert f"site_url: {SITE}\n" in site
    assert f"repo_url: {REPOSITORY}\n" in site


def test_the_tables_have_the_recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benches")
    script = runpy.run_path(str(ROOT / "benches/tables.py"))
    for name, tables in script["PAGES"].items():
        page = (ROOT / "docs" / name).read_text()
        assert script["records"].with_tables(page, tables()) == page, "run benches/tables.py"


def test_the_picture_shows_the_recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "benches")
    script = runpy.run_path(str(ROOT / "benches/picture.py"))
    drawn = script["draw"]({panel: script["measured"](panel) for panel in script["PANELS"]})
    assert drawn == (ROOT / "docs/cpu-per-gb.svg").read_text(), "run benches/picture.py"


def test_the_api_reference_has_everything_public() -> None:
    pages = {path.stem: path.read_text() for path in (ROOT / "docs/api").glob("*.md")}
    for name in set(bytepool.__all__) - {"__version__", "decay"}:
        assert f"::: bytepool.{name}\n" in pages["bytepool"]
    modules = {module.name for module in pkgutil.iter_modules(bytepool.__path__)}
    public = {name for name in modules if not name.startswith("_")}
    # The first is part of `bytepool`, and the other one is a command.
    assert public - {"stats", "bench"} == pages.keys() - {"bytepool"}


def test_the_reference_states_the_defaults() -> None:
    assert f"`{bytepool.Pool()!r}`" in (ROOT / "docs/reference.md").read_text()
