"""Waiting in a task of an event loop for the budget of a pool."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, TypeVar

from bytepool._bytepool import FREE_THREADED, PoolExhaustedError, Waiter
from bytepool._free_threading import collect_garbage

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex

    from bytepool._bytepool import Allocator, Pool

_Taken = TypeVar("_Taken")


async def allocate_async(pool: Pool, n: SupportsIndex) -> Allocator:
    """Implement ``Pool.allocate_async``."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # The first call raises this, and not the first one that has to wait.
        raise RuntimeError(
            "allocate_async() needs a running asyncio event loop; elsewhere (trio, curio), call "
            "pool.allocate(n, timeout=...) in a worker thread"
        ) from None
    try:
        return pool.allocate(n)
    except PoolExhaustedError:
        pass  # the wait is below, where the exception and its traceback are gone
    return await _wait(pool, n, Waiter.take, loop.create_future())


async def view_async(pool: Pool, n: SupportsIndex, granted: asyncio.Future[None]) -> memoryview:
    """Wait for the result of ``Pool.view``.

    The caller can end the wait by setting the result of ``granted``: this then raises
    PoolExhaustedError.
    """
    return await _wait(pool, n, Waiter.view, granted)


async def _wait(
    pool: Pool, n: SupportsIndex, take: Callable[[Waiter], _Taken], granted: asyncio.Future[None]
) -> _Taken:
    loop = granted.get_loop()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)
        for reference in waiters:
            # In a closed loop the task never runs again, and must not block the waiters behind it.
            if loop.is_closed() and (abandoned := reference()):
                abandoned.leave()

    def settle() -> None:
        if not granted.done():
            granted.set_result(None)

    # A weak reference, or the waiter would keep itself alive through wake().
    waiters: list[weakref.ref[Waiter]] = []
    with Waiter(pool, n, wake) as waiter:
        waiters.append(weakref.ref(waiter))
        await (_wait_and_collect(granted) if FREE_THREADED else granted)
        return take(waiter)


async def _wait_and_collect(granted: asyncio.Future[None]) -> None:
    """Wait for the future, and collect garbage from time to time, which may set its result."""
    begin, timeout = time.monotonic(), 0.001
    while not (await asyncio.wait([granted], timeout=timeout))[0]:
        collect_garbage(time.monotonic() - begin)
        timeout = min(2 * timeout, 1.0)  # other tasks may wait as well
