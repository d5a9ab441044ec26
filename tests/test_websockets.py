"""Pooled views through websockets: what waits to be sent, and what was received."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import uvloop
from helpers import pattern, reuse_hard
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

    from websockets.asyncio.server import ServerConnection

N = 300_000


async def exchange(pool: Pool) -> list[bool]:
    """Echo messages out of pooled memory that is released before they are on their way."""

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            assert isinstance(message, bytes)
            with pool.allocate(len(message)) as alloc:
                alloc.bytes()[:] = message
                sending = asyncio.ensure_future(connection.send(alloc.bytes()))
            reuse_hard(pool, N)
            await sending

    same = []
    async with serve(echo, "127.0.0.1", 0, compression=None) as server:
        port = server.sockets[0].getsockname()[1]
        async with connect(f"ws://127.0.0.1:{port}", compression=None) as client:
            for i in range(5):
                content = pattern(N - i)
                alloc = pool.allocate(N - i)
                alloc.bytes()[:] = content
                # In fragments: the second is still in the pool's memory when the first is out.
                parts = [alloc.bytes()[:1000], alloc.bytes()[1000:]]
                alloc.release()
                await client.send(parts)
                del parts
                same.append(await client.recv() == content)
    return same


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_every_message_comes_back_as_it_was(run: Callable[..., list[bool]]) -> None:
    pool = Pool(1024, 1 << 20, 4)
    assert run(exchange(pool)) == [True] * 5
    assert pool.stats().outstanding == 0
