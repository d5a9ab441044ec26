"""Timers that call ``Pool.decay()``, so that memory that is no longer needed is freed.

Without a timer, a pool decays at every 1,024th return of a buffer to a size class, and when
Python's garbage collector runs. A process that sleeps does neither, and a process that frees as
many objects as it creates collects no garbage. A server should therefore use a timer of its event
loop, or a thread::

    with bytepool.decay.in_loop(pool):       # in a coroutine
        await serve_forever()

    with bytepool.decay.in_thread(pool):     # anywhere
        serve_forever()
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bytepool._bytepool import Pool

__all__ = ["in_loop", "in_thread"]


@contextmanager
def in_loop(pool: Pool) -> Iterator[None]:
    """Call ``pool.decay()`` from a timer of the running event loop, until the end of the block.

    Raises RuntimeError if no event loop is running, and ValueError if the pool has no
    ``idle_timeout``.
    """
    import asyncio  # slow to import, and a program that calls this has imported it already

    loop = asyncio.get_running_loop()
    interval = _interval(pool)
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        timer = loop.call_later(interval, tick)
        pool.decay()

    timer = loop.call_later(interval, tick)
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def in_thread(pool: Pool) -> Iterator[None]:
    """Call ``pool.decay()`` from a thread, until the end of the block.

    Raises ValueError if the pool has no ``idle_timeout``.
    """
    interval = _interval(pool)
    done = threading.Event()

    def run() -> None:
        while not done.wait(interval):
            pool.decay()

    thread = threading.Thread(target=run, name="bytepool.decay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _interval(pool: Pool) -> float:
    """Return the seconds between two calls: a quarter of the timeout, so that none is much late."""
    if pool.idle_timeout is None:
        raise ValueError(f"{pool!r} has no idle_timeout: it keeps idle memory")
    return min(max(pool.idle_timeout / 4, 0.01), threading.TIMEOUT_MAX)
