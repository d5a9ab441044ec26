"""A soak of nine seconds. ``make soak`` runs for ten minutes."""

from __future__ import annotations

from pathlib import Path

from helpers import run_file

SCRIPT = Path(__file__).parent.parent / "scripts" / "soak.py"


def test_memory_is_bounded_during_bursts_and_freed_between_them(tmp_path: Path) -> None:
    picture = tmp_path / "soak.svg"
    report = run_file(str(SCRIPT), "--seconds", "9", "--cycles", "3", "--picture", str(picture))
    assert report.endswith(" 0 failures\n")
    assert "resident, above the start" in picture.read_text()
