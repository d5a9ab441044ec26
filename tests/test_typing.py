"""Types of the public API: what mypy and pyright accept, reject and infer."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
CASES = "tests/typing_cases.py"

pytestmark = pytest.mark.skipif(
    not (find_spec("mypy") and find_spec("basedpyright")),
    reason="the dependency group dev, with the type checkers, is not installed",
)


def check(*command: str) -> str:
    """Run a type checker with this Python's packages, and return its output."""
    path = os.pathsep.join([str(BIN), os.environ["PATH"]])
    environment = os.environ | {"PATH": path}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_mypy_agrees_with_the_cases() -> None:
    assert "no issues found in 1 source file" in check(sys.executable, "-m", "mypy", CASES)


def test_pyright_agrees_with_the_cases() -> None:
    assert "0 errors, 0 warnings" in check(str(BIN / "basedpyright"), CASES)


def test_every_public_name_has_a_known_type() -> None:
    report = check(str(BIN / "basedpyright"), "--verifytypes", "bytepool", "--ignoreexternal")
    assert "Type completeness score: 100%" in report
