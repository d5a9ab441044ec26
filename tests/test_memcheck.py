"""valgrind checks plain calls from Python. ``make memcheck`` checks far more."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "memcheck.py"


@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not installed")
def test_valgrind_finds_no_invalid_access_and_no_leak() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--short"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Python, plain calls: " in done.stdout
