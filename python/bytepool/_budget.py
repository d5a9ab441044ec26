"""Waiting for bytes of a pool's budget in a task of an event loop."""

from __future__ import annotations

import asyncio
import time
import weakref
from typing import TYPE_CHECKING, TypeVar

from bytepool._bytepool import FREE_THREADED, PoolExhaustedError, Ticket
from bytepool._free_threading import free_what_others_made

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import SupportsIndex

    from bytepool._bytepool import Allocator, Pool

_Taken = TypeVar("_Taken")


async def allocate_async(pool: Pool, n: SupportsIndex) -> Allocator:
    """As ``Pool.allocate_async``."""
    try:
        return pool.allocate(n)
    except PoolExhaustedError:
        pass  # and the exception with its traceback is gone before the wait
    return await _wait(pool, n, Ticket.take, asyncio.get_running_loop().create_future())


async def view_async(pool: Pool, n: SupportsIndex, granted: asyncio.Future[None]) -> memoryview:
    """Wait for what ``Pool.view`` would return.

    It ends, with PoolExhaustedError, when somebody else sets the result of ``granted``.
    """
    return await _wait(pool, n, Ticket.view, granted)


async def _wait(
    pool: Pool, n: SupportsIndex, take: Callable[[Ticket], _Taken], granted: asyncio.Future[None]
) -> _Taken:
    loop = granted.get_loop()

    def wake() -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle)
        for place in places:
            # A task that will never run again must not keep others waiting.
            if loop.is_closed() and (abandoned := place()):
                abandoned.leave()

    def settle() -> None:
        if not granted.done():
            granted.set_result(None)

    places: list[weakref.ref[Ticket]] = []
    with Ticket(pool, n, wake) as ticket:
        places.append(weakref.ref(ticket))  # not the ticket: it would keep itself alive
        await (_looking_around(granted) if FREE_THREADED else granted)
        return take(ticket)


async def _looking_around(granted: asyncio.Future[None]) -> None:
    """Wait for it, and now and then see to it that memory comes home."""
    begin, turn = time.monotonic(), 0.001
    while not (await asyncio.wait([granted], timeout=turn))[0]:
        free_what_others_made(time.monotonic() - begin)
        turn = min(2 * turn, 1.0)  # there may be many who wait
