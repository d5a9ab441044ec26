"""What the fuzzers have found worth keeping, replayed: ``make fuzz`` finds more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("target", ["surface", "streams"])
def test_every_input_of_the_corpus_replays_cleanly(target: str) -> None:
    """In a process of its own, which may crash, and whose garbage nobody else has to collect."""
    corpus = ROOT / "fuzz" / "corpus" / target
    inputs = len(list(corpus.iterdir()))
    assert inputs > 50, "the corpus is gone"
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
