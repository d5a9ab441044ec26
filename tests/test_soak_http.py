"""An HTTP soak of three seconds. ``make soak-http`` runs for ten minutes."""

from __future__ import annotations

from pathlib import Path

from helpers import run_file

SCRIPT = Path(__file__).parent.parent / "scripts" / "soak_http" / "soak_http.py"


def test_a_server_keeps_nothing_of_uploads_that_break_off() -> None:
    report = run_file(str(SCRIPT), "--minutes", "0.05")
    assert report.endswith(" 0 failures\n")
    for event in ("upload", "pipeline", "chunked", "disconnect", "stall", "too short", "too long"):
        assert f" {event}" in report
