"""Peers that promise and do not send, and readers that wait for their own message."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest
from helpers import pattern
from streams_helpers import connected, run_fixture

from bytepool import Pool, streams

run = run_fixture()

N = 200_000


@pytest.mark.parametrize("how", ["readexactly", "readview", "readinto", "frames"])
def test_stalled_read_raises_and_gives_its_memory_back(run: Any, how: str) -> None:
    pool = Pool(4096, 1 << 20, max_bytes=1 << 20)

    async def main() -> None:
        async def handler(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
            argument = bytearray(N) if how == "readinto" else N
            frames = reader.frames()
            read = anext(frames) if how == "frames" else getattr(reader, how)(argument)
            with pytest.raises(TimeoutError, match=r"nothing for 0.05 seconds, after \d+ of"):
                await read
            assert pool.stats().outstanding == 0
            assert writer.is_closing(), "the connection is aborted"
            done.set()

        done = asyncio.Event()
        server = await streams.start_server(handler, "127.0.0.1", 0, pool=pool, stall_timeout=0.05)
        async with server:
            _, writer = await streams.open_connection(*server.sockets[0].getsockname())
            writer.write(N.to_bytes(4, "big") + b"and no more")
            await done.wait()
            writer.close()

    run(main())


def test_peer_that_is_slow_and_sends_is_no_stall(run: Any) -> None:
    async def main() -> None:
        reader = streams.StreamReader(stall_timeout=0.2)
        task = asyncio.ensure_future(reader.readexactly(N))
        for i in range(0, N, 20_000):
            await asyncio.sleep(0.05)
            reader.feed_data(pattern(N)[i : i + 20_000])
        assert await task == pattern(N)
        small = asyncio.ensure_future(reader.readexactly(10))
        await asyncio.sleep(0.5)
        assert not small.done(), "an idle connection may be idle"
        reader.feed_data(bytes(10))
        await small

    run(main())


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan")])
def test_timeout_that_makes_no_sense_raises(seconds: float) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="stall_timeout must be above 0"):
            streams.StreamReader(stall_timeout=seconds)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["readview", "frames"])
def test_loop_that_holds_the_message_it_waits_for_warns(run: Any, how: str) -> None:
    async def serve(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
        frames = reader.frames()
        message = None
        for _i in range(2):
            if how == "frames":
                message = await anext(frames)
            else:
                message = await reader.readview(N)
            assert len(message) == N

    async def main() -> None:
        async with connected(serve, Pool(1 << 18, 1 << 18, max_bytes=1 << 18)) as (_, writer):
            for _ in range(2):
                writer.write((N.to_bytes(4, "big") if how == "frames" else b"") + bytes(N))
            await asyncio.sleep(0.1)

    with pytest.raises(RuntimeWarning, match="waits for ever: del the message"):
        run(main())


def test_loop_that_lets_go_of_its_message_does_not_warn(run: Any) -> None:
    async def serve(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
        async for message in reader.frames():
            assert len(message) == N
            del message

    async def main() -> None:
        async with connected(serve, Pool(1 << 18, 1 << 18, max_bytes=1 << 18)) as (_, writer):
            for _ in range(3):
                streams.write_frame(writer, bytes(N))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())
