"""Situations from public bug reports of servers and libraries, tried on connections."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from helpers import KIB
from streams_helpers import run_fixture
from test_field_reports import connection

from bytepool import Pool, decay, streams

if TYPE_CHECKING:
    from collections.abc import Callable

MESSAGE: ContextVar[memoryview] = ContextVar("MESSAGE")
run = run_fixture()


async def _outstanding_after_a_turn(pool: Pool) -> int:
    await asyncio.sleep(0.01)  # the loop itself holds the last context for one turn
    gc.collect()
    return pool.stats().outstanding


def test_timers_do_not_hold_the_context_of_the_task_that_started_them(
    run: Callable[..., Any],
) -> None:
    """A timer keeps a copy of the context variables, and with it the messages in them."""
    pool, tight = Pool(), Pool(4 * KIB, 4 * KIB, max_bytes=4 * KIB)

    async def start(stack: contextlib.ExitStack) -> None:
        MESSAGE.set(pool.view(100))
        stack.enter_context(decay.in_loop(pool))

    async def wait() -> None:
        MESSAGE.set(pool.view(100))
        (await tight.allocate_async(4 * KIB)).release()

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            await asyncio.create_task(start(stack))
            assert await _outstanding_after_a_turn(pool) == 0
        held = tight.allocate(4 * KIB)
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.01)
        held.release()
        await task
        del task
        assert await _outstanding_after_a_turn(pool) == 0

    run(main())


def test_a_connection_does_not_hold_the_context_of_a_task_that_has_read(
    run: Callable[..., Any],
) -> None:
    pool = Pool()

    async def read(reader: streams.StreamReader, n: int) -> None:
        MESSAGE.set(pool.view(100))
        assert len(await reader.readexactly(n)) == n

    async def main() -> None:
        reader, writer, peer = await connection()
        send = asyncio.get_running_loop().sock_sendall
        for n in (100, 1_000_000):
            task = asyncio.create_task(read(reader, n))
            await asyncio.sleep(0.01)
            await send(peer, bytes(n))
            await task
            del task
            assert await _outstanding_after_a_turn(pool) == 0
        # More than the stream reads ahead: a read starts the transport again.
        sending = asyncio.create_task(send(peer, bytes(5_000_000)))
        await asyncio.sleep(0.05)
        for _ in range(5):
            task = asyncio.create_task(read(reader, 1_000_000))
            await task
            del task
            assert await _outstanding_after_a_turn(pool) == 0
        await sending
        writer.close()
        peer.close()

    run(main())


def test_answers_reach_their_own_connection_while_others_break(run: Callable[..., Any]) -> None:
    """File descriptors and buffers are reused at once. No answer may reach another peer."""
    pool = Pool(max_buffers=2)

    async def echo(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                n = int.from_bytes(await reader.readexactly(4), "big")
                message = await reader.readview(n)
                await asyncio.sleep(0)
                writer.write(message)
                await writer.drain()
        writer.close()

    async def client(address: tuple[str, int], number: int) -> None:
        rng = random.Random(number)
        reader, writer = await streams.open_connection(*address)
        for turn in range(4):
            n = rng.choice([100, 70_000, 300_000])
            message = (f"{number}.{turn} ".encode() * n)[:n]
            writer.write(n.to_bytes(4, "big") + message)
            if number % 3 == 0 and turn == 2:
                writer.transport.abort()  # in the middle of an answer
                return
            assert await reader.readexactly(n) == message
        writer.close()

    async def main() -> None:
        server = await streams.start_server(echo, "127.0.0.1", 0, pool=pool)
        async with server:
            address = server.sockets[0].getsockname()
            for batch in range(4):
                await asyncio.gather(*(client(address, 20 * batch + i) for i in range(20)))
        for _ in range(100):
            if pool.stats().outstanding == 0:
                break
            await asyncio.sleep(0.01)
        assert pool.stats().outstanding == 0

    run(main())
