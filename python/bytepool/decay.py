"""Timers that call ``Pool.decay()``, so that memory that is no longer needed is freed.

Without a timer, a pool decays at every 1,024th return of a buffer to a size class, and when
Python's garbage collector runs. A process that sleeps does neither, and a process that frees as
many objects as it creates collects no garbage. A server should therefore use a timer of its event
loop, or a thread:

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
    import contextvars

    loop = asyncio.get_running_loop()
    interval = _interval(pool)
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal timer
        timer = loop.call_later(interval, tick)
        pool.decay()

    # In the caller's context, the timer would keep the values of the caller's context variables.
    timer = loop.call_later(interval, tick, context=contextvars.Context())
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def in_thread(pool: Pool) -> Iterator[None]:
    """Call ``pool.decay()`` from a thread, until the end of the block.

    A process that is forked within the block gets a thread of its own.

    Raises ValueError if the pool has no ``idle_timeout``.
    """
    thread = _Thread(pool, _interval(pool))
    thread.start()
    _threads.add(thread)
    try:
        yield
    finally:
        _threads.discard(thread)
        thread.stop()


class _Thread:
    """A thread that calls ``pool.decay()``, and can be started again in a forked child."""

    def __init__(self, pool: Pool, interval: float) -> None:
        self._pool, self._interval = pool, interval

    def start(self) -> None:
        # A new event each time: after a fork, a thread of the parent may have the old one locked.
        self._done = threading.Event()
        thread = threading.Thread(
            target=self._run, args=(self._done,), name="bytepool.decay", daemon=True
        )
        thread.start()
        self._thread = thread

    def _run(self, done: threading.Event) -> None:
        while not done.wait(self._interval):
            self._pool.decay()

    def stop(self) -> None:
        self._done.set()
        self._thread.join()


_threads: set[_Thread] = set()


def _restart_threads() -> None:
    """Start the threads of all ``in_thread`` blocks again. A forked child has none of them."""
    for thread in list(_threads):
        thread.start()


def _interval(pool: Pool) -> float:
    """Return the seconds between two calls: a quarter of the timeout, so that none is much late."""
    if pool.idle_timeout is None:
        raise ValueError(f"{pool!r} has no idle_timeout: it keeps idle memory")
    return min(max(pool.idle_timeout / 4, 0.01), threading.TIMEOUT_MAX)
