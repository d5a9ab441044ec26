"""A soak of nine seconds. ``make soak`` runs for ten minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "soak.py"


def test_memory_is_bounded_during_bursts_and_freed_between_them(tmp_path: Path) -> None:
    picture = tmp_path / "soak.svg"
    done = subprocess.run(
        [
            *(sys.executable, "-X", "dev", "-W", "error"),
            *(SCRIPT, "--seconds", "9", "--cycles", "3"),
            *("--picture", picture),
        ],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" 0 failures\n")
    assert "resident, above the start" in picture.read_text()
