"""The tables of the core in ``docs/performance.md`` are those of ``benches/compare.json``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "benches" / "compare.json"
PAGE = ROOT / "docs" / "performance.md"
PICTURE = ROOT / "docs" / "performance" / "two-threads.svg"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    program = ROOT / "benches" / "compare_docs.py"
    return subprocess.run(
        [sys.executable, program, *arguments], check=False, capture_output=True, text=True
    )


def test_documented_tables_are_the_recorded_ones() -> None:
    done = run("--check")
    assert done.returncode == 0, done.stderr


def test_page_is_out_of_date_after_a_new_record_until_it_is_written_again(tmp_path: Path) -> None:
    recorded = json.loads(FILE.read_text())
    rounds = recorded["nanoseconds"]["hand_over/4096"]["bytepool"]
    rounds[:] = [2 * each for each in rounds]
    file, page = tmp_path / "compare.json", tmp_path / "performance.md"
    file.write_text(json.dumps(recorded))
    page.write_text(PAGE.read_text())
    (tmp_path / "performance").mkdir()
    options = ("--file", file, "--page", page)
    assert run("--check", *options).returncode == 1
    assert run(*options).returncode == 0
    assert run("--check", *options).returncode == 0
    changed = set(page.read_text().splitlines()) ^ set(PAGE.read_text().splitlines())
    assert changed, "the new times are in the page"
    assert all("|" in line for line in changed), "only tables change"
    assert (tmp_path / "performance" / PICTURE.name).exists()
