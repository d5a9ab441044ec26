"""Waiting in a task of an event loop for the budget of a pool."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from bytepool._bytepool import FREE_THREADED, PoolExhaustedError, Waiter, collect_garbage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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

    The caller can end the wait by setting an exception on ``granted``: this then raises it.
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
        with _looking_after(waiter, granted):
            await granted
        return take(waiter)


@contextmanager
def _looking_after(waiter: Waiter, granted: asyncio.Future[None]) -> Iterator[None]:
    """Collect garbage from time to time, which may free the bytes that the block waits for.

    This also notices a grant if there was no memory to call ``wake()``.
    """
    # Without a GIL, this thread itself may have to run Python code to free them.
    pause = 0.001 if FREE_THREADED else 1.0
    timer: asyncio.TimerHandle

    def tick() -> None:
        nonlocal pause, timer
        collect_garbage(1.0)
        if not (waiter.waits or granted.done()):
            granted.set_result(None)
        pause = min(2 * pause, 1.0)  # other tasks may wait as well
        timer = granted.get_loop().call_later(pause, tick)

    # In the task's context, the timer would keep the values of the task's context variables.
    timer = granted.get_loop().call_later(pause, tick, context=contextvars.Context())
    try:
        yield
    finally:
        timer.cancel()
