"""Reads that wait for a pool's budget."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest
from helpers import pattern
from streams_helpers import connected, run_fixture

import bytepool
from bytepool import Pool, streams

run = run_fixture()


def test_readview_waits_for_the_pools_budget(run: Any) -> None:
    async def main() -> None:
        pool = Pool(4096, 1 << 20, max_bytes=1 << 20)
        held = pool.allocate(1 << 20)
        seen = asyncio.Event()

        async def handler(reader: streams.StreamReader, _writer: asyncio.StreamWriter) -> None:
            seen.set()
            assert bytes(await reader.readview(500_000)) == pattern(500_000)
            assert bytes(await reader.readview(1 << 20)) == pattern(1 << 20)
            with pytest.raises(bytepool.PoolExhaustedError, match="whole budget"):
                await reader.readview(1 << 21)

        async with connected(handler, pool) as (_, writer):
            writer.write(pattern(500_000) + pattern(1 << 20))
            await seen.wait()
            await asyncio.sleep(0.05)
            assert pool.stats().outstanding == 1
            held.release()
        assert pool.stats().outstanding == 0

    run(main())


@pytest.mark.parametrize("broken", [False, True])
def test_readview_of_a_dead_stream_does_not_wait_for_a_budget(run: Any, broken: bool) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        reader.feed_data(b"part")
        if broken:
            reader.set_exception(ConnectionResetError())
            with pytest.raises(ConnectionResetError):
                await reader.readview(100)
            return
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await reader.readview(100)
        assert error.value.partial == b"part"
        held.release()
        assert await reader.read() == b""

    run(main())


@pytest.mark.parametrize("broken", [False, True])
def test_end_of_the_stream_ends_a_wait_for_the_budget(run: Any, broken: bool) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        task = asyncio.create_task(reader.readview(100))
        await asyncio.sleep(0.01)
        reader.feed_data(b"part")
        if broken:
            reader.set_exception(ConnectionResetError())
        else:
            reader.feed_eof()
        wanted = ConnectionResetError if broken else asyncio.IncompleteReadError
        with pytest.raises(wanted):
            await asyncio.wait_for(task, 5)
        held.release()
        assert pool.allocate(4096).size == 4096, "nobody else waits"

    run(main())


def test_end_of_the_stream_keeps_a_wait_for_the_budget_whose_bytes_are_received(run: Any) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        task = asyncio.create_task(reader.readview(4))
        await asyncio.sleep(0.01)
        reader.feed_data(b"part")
        reader.feed_eof()
        await asyncio.sleep(0.01)
        held.release()
        assert bytes(await asyncio.wait_for(task, 5)) == b"part"

    run(main())


def test_view_after_a_wait_does_not_count_as_dropped(run: Any) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096, track="all")
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        reader.feed_data(bytes(4096))
        task = asyncio.create_task(reader.readview(4096))
        await asyncio.sleep(0.01)
        held.release()
        view = await task
        del view, task
        await asyncio.sleep(0)  # the loop lets go of it; a ResourceWarning would be an error here
        assert len(pool.tracked()) == 0

    run(main())
    gc.collect()
