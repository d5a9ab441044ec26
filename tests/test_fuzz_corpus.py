"""The corpus of the fuzzers, replayed. ``make fuzz`` extends the corpus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("target", ["surface", "streams"])
def test_every_input_of_the_corpus_replays_cleanly(target: str) -> None:
    """In a process of its own, so that a crash is reported as one failed test."""
    corpus = ROOT / "fuzz" / "corpus" / target
    inputs = len(list(corpus.iterdir()))
    assert inputs > 50, "inputs are missing from the corpus"
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "fuzz", target, "--replay", str(corpus)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{target}: {inputs} inputs replayed")
    assert done.stderr == ""
