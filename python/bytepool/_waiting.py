"""Waiting for bytes of a pool's budget: a thread on a lock, a task on a future."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from bytepool._bytepool import PoolExhaustedError, Ticket

if TYPE_CHECKING:
    from typing import SupportsIndex

    from bytepool._bytepool import Allocator, Pool


def allocate(pool: Pool, n: int, timeout: float) -> Allocator:
    """Wait in this thread, which ``KeyboardInterrupt`` and other signals may interrupt."""
    granted = threading.Lock()
    granted.acquire()
    with Ticket(pool, n, granted.release) as ticket:
        granted.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))
        return ticket.take()


async def allocate_async(pool: Pool, n: SupportsIndex) -> Allocator:
    """Wait in this task."""
    try:
        return pool.allocate(n)
    except PoolExhaustedError:
        pass  # and the exception with its traceback is gone before the wait
    loop = asyncio.get_running_loop()
    granted = loop.create_future()

    def wake() -> None:
        # A loop that was closed meanwhile has nobody who waits.
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)

    def settle() -> None:
        if not granted.done():
            granted.set_result(None)

    with Ticket(pool, n, wake) as ticket:
        await granted
        return ticket.take()
