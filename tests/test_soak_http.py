"""An HTTP soak of three seconds. ``make soak-http`` runs for ten minutes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "soak_http" / "soak_http.py"


def test_a_server_keeps_nothing_of_uploads_that_break_off() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", SCRIPT, "--minutes", "0.05"],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(" 0 failures\n")
    for event in ("upload", "pipeline", "chunked", "disconnect", "stall", "too short", "too long"):
        assert f" {event}" in done.stdout
