"""Functions that the tests of ``bytepool.advise`` share."""

from __future__ import annotations

import subprocess
import textwrap
from typing import TYPE_CHECKING, Any

from helpers import STRICT

if TYPE_CHECKING:
    from pathlib import Path

# Allocates and writes large blocks, one after another.
ALLOCATING = """
    def step(n):
        block = bytearray(n)
        block[::4096] = b"x" * len(block[::4096])

    if __name__ == "__main__":
        for number in range(60):
            step(1_000_000 + 20_000 * (number % 50))
"""


def write(folder: Path, code: str, name: str = "script.py") -> Path:
    script = folder / name
    script.write_text(textwrap.dedent(code))
    return script


def advise(
    *arguments: object, options: tuple[str, ...] = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command, and return its status and its output."""
    command = [*STRICT, *options, "-m", "bytepool.advise", *map(str, arguments)]
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, **more}
    return subprocess.run(command, check=False, **settings)


def plain(*arguments: object, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run the program without the command."""
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60, **more}
    return subprocess.run([*STRICT, *map(str, arguments)], check=False, **settings)
