"""Timers that call ``Pool.decay()``, so that idle memory goes back when nobody needs it.

Without them a pool decays when it is used (at every 1,024th buffer that comes home to a size class)
and when Python's garbage collector runs, which needs no thread and no call to the pool. But a
process that sleeps does neither, and one that frees as many objects as it makes collects no
garbage. So a server does well to opt in to a timer of its event loop, or to a thread::

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
    """Call ``pool.decay()`` by a timer of the running event loop, until the end of the block.

    Raises RuntimeError if no event loop is running, and ValueError if the pool has no
    ``idle_timeout``.
    """
    import asyncio  # by those only who have it anyway: it takes long

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
    """Call ``pool.decay()`` in a thread of its own, until the end of the block.

    Raises ValueError if the pool has no ``idle_timeout``.
    """
    interval = _interval(pool)
    over = threading.Event()

    def run() -> None:
        while not over.wait(interval):
            pool.decay()

    thread = threading.Thread(target=run, name="bytepool.decay", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _interval(pool: Pool) -> float:
    """Seconds between two calls: a quarter of the timeout, so that it is never much late."""
    if pool.idle_timeout is None:
        raise ValueError(f"{pool!r} has no idle_timeout, so its idle memory is kept for ever")
    return min(max(pool.idle_timeout / 4, 0.01), threading.TIMEOUT_MAX)
