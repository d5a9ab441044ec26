"""What several test files need."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import bytepool


def pattern(n: int) -> bytes:
    """``n`` bytes that no pool would hand out by chance, different at every offset and length."""
    return bytes((i * 31 + i // 251 + n) % 255 + 1 for i in range(min(n, 64_000))).ljust(n, b"\x5a")


def reuse_hard(pool: bytepool.Pool, n: int) -> None:
    """Let whoever may wrongly own a buffer of ``n`` bytes show it: overwrite all the pool has."""
    for junk in (b"\xee", b"\x11"):
        views = [pool.view(n) for _ in range(2 * pool.max_buffers + 2)]
        for view in views:
            view[:] = junk * n
        del view, views


STRICT = [sys.executable, "-X", "dev", "-W", "error"]


def run_python(code: str, *options: str, timeout: float = 60) -> str:
    """Run the code in a fresh interpreter that lets nothing pass, and return what it printed."""
    return _run([*STRICT, *options, "-c", textwrap.dedent(code)], timeout)


def run_script(code: str) -> str:
    """The same, of a file, which processes that it starts can import."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(textwrap.dedent(code))
        return _run([*STRICT, str(script)], timeout=60)


def _run(command: list[str], timeout: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def at_length(short: int, long: int) -> int:
    """How often to do something: seldom in ``make test``, often in ``make attack``."""
    return long if os.environ.get("BYTEPOOL_TEST_AT_LENGTH") else short
