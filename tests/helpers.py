"""Functions that several test files share."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytepool import Pool, PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB, MIB = 1 << 10, 1 << 20
SHORT = 0.05  # seconds to watch that nothing happens
LONG = 20.0  # seconds after which a test gives up

STRICT = [sys.executable, "-X", "dev", "-W", "error"]


def pattern(n: int) -> bytes:
    """Return ``n`` bytes that differ at every offset and for every ``n``, and are never zero."""
    return bytes((i * 31 + i // 251 + n) % 255 + 1 for i in range(min(n, 64_000))).ljust(n, b"\x5a")


def reuse_hard(pool: Pool, n: int) -> None:
    """Overwrite every idle buffer for ``n`` bytes. A view that still shares one then changes."""
    for junk in (b"\xee", b"\x11"):
        views = [pool.view(n) for _ in range(2 * pool.max_buffers + 2)]
        for view in views:
            view[:] = junk * n
        del view, views


def budget_pool(buffers: int = 4, **options: Any) -> Pool:
    """Return a pool with one size class, 1 KiB, and a budget for this many buffers."""
    return Pool(KIB, KIB, max_bytes=buffers * KIB, **options)


async def settle() -> None:
    """Let every task that can run go on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


def start_thread(*steps: Callable[[], object]) -> threading.Thread:
    """Start a thread that makes these calls one after another."""
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    return thread


def wait_for_waiters(pool: Pool, n: int) -> None:
    """Block until ``n`` requests wait for the budget of the pool."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        try:
            assert pool.max_bytes
            pool.view(pool.max_bytes).release()
        except PoolExhaustedError as error:
            if f", {n} waiters" in str(error):
                return
        time.sleep(0.001)
    raise AssertionError(f"{n} requests do not wait")


def held_bytes(pool: Pool) -> int:
    """Return what counts against the budget: the bytes in use and the idle ones."""
    stats = pool.stats()
    return stats.outstanding_bytes + stats.idle_bytes


def fill(pool: Pool, *sizes: int) -> None:
    """Take a buffer of each size, then return them all in this order."""
    views = [pool.view(n) for n in sizes]
    while views:
        views.pop(0)


def idle(pool: Pool) -> dict[int, int]:
    """Return the number of idle buffers of each size class that has any."""
    return {bucket.size: bucket.depth for bucket in pool.stats().buckets if bucket.depth}


def freed(pool: Pool, reason: str) -> int:
    """Return how many buffers of all size classes were freed for this reason."""
    return sum(getattr(bucket, reason) for bucket in pool.stats().buckets)


def eventually(condition: Callable[[], bool]) -> bool:
    """Return whether the condition becomes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Keep the garbage collector from freeing what only a reference cycle holds."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def run_python(code: str, *options: str, timeout: float = 60) -> str:
    """Run the code in a new interpreter and return its output. Warnings and stderr fail."""
    return _run([*STRICT, *options, "-c", textwrap.dedent(code)], timeout)


def run_script(code: str) -> str:
    """Run the code from a file, which child processes can import, and return its output."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(textwrap.dedent(code))
        return _run([*STRICT, str(script)], timeout=60)


def run_file(*command: str, **environment: str) -> str:
    """Run a Python file with arguments and variables of the environment, and return its output."""
    return _run([*STRICT, *command], timeout=60, environment=environment)


def _run(command: list[str], timeout: float, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env=os.environ | (environment or {}),
    )
    # In development mode, asyncio says so when a step takes long, as it does on a busy machine.
    slow = re.compile(r"^Executing <.* took [\d.]+ seconds\n", re.MULTILINE)
    assert (done.returncode, slow.sub("", done.stderr)) == (0, ""), done
    return done.stdout


def repetitions(*, short: int, long: int) -> int:
    """Return how often to repeat a step: ``long`` if ``BYTEPOOL_TEST_LONG`` is set, else ``short``.

    ``make stress``, ``make leaks`` and ``make forks`` set it.
    """
    return long if os.environ.get("BYTEPOOL_TEST_LONG") else short
