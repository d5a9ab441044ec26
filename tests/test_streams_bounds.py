"""What reads leave behind that did not complete, and how much memory that costs."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from streams_helpers import receive, run_fixture

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Callable

run = run_fixture()
BUDGET = 3 << 20
LIMIT = 1 << 16
CONTENT = random.Random(1).randbytes(BUDGET)


@pytest.mark.thread_unsafe(reason="it measures the process")
@pytest.mark.parametrize("ending", ["timeout", "end of stream"])
@pytest.mark.parametrize("how", ["readview", "frames"])
def test_four_peers_that_do_not_send_all_cost_no_more_than_the_budget(
    run: Callable[..., Any], how: str, ending: str
) -> None:
    """Neither the errors nor the readers keep a message outside of the pool."""
    payload = memoryview(CONTENT)
    header = BUDGET.to_bytes(4, "big") if how == "frames" else b""
    pool = Pool(max_size=BUDGET, max_bytes=BUDGET)
    left: list[object] = []

    async def send(peer: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            await loop.sock_sendall(peer, header)
            await loop.sock_sendall(peer, payload[:-1])
            if ending == "end of stream":
                peer.shutdown(socket.SHUT_WR)

    async def serve(reader: streams.StreamReader) -> None:
        frames = reader.frames(max_size=BUDGET)
        read = reader.readview(BUDGET) if how == "readview" else frames.__anext__()
        try:
            await asyncio.wait_for(read, 0.3 if ending == "timeout" else 10)
        except (TimeoutError, asyncio.IncompleteReadError) as error:
            left.append(error.with_traceback(None))

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            tasks = []
            for _ in range(4):
                ours, peer = socket.socketpair()
                stack.enter_context(peer)
                peer.setblocking(False)
                reader, writer = await streams.open_connection(sock=ours, pool=pool)
                stack.callback(writer.close)
                tasks += [asyncio.create_task(send(peer))]
                await serve(reader)
                left.append(reader)
            outside, _ = tracemalloc.get_traced_memory()
            assert outside - before < BUDGET / 4
            assert pool.stats().outstanding == (1 if ending == "timeout" else 0)
            left.clear()
            del reader, writer
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        run(main())
    finally:
        tracemalloc.stop()
    assert pool.stats().outstanding == 0


def requests(pool: Pool) -> int:
    return sum(bucket.hits + bucket.misses for bucket in pool.stats().buckets)


async def cancelled(read: Any, reader: streams.StreamReader, data: bytes) -> None:
    """Cancel a read when ``data`` has come."""
    task = asyncio.create_task(read)
    await asyncio.sleep(0)
    receive(reader, data)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_readview_that_is_tried_again_goes_on_in_the_same_memory() -> None:
    async def main() -> None:
        pool = Pool(max_size=BUDGET, max_bytes=BUDGET)
        reader = streams.StreamReader(pool=pool)
        await cancelled(reader.readview(BUDGET), reader, CONTENT[:1_000_000])
        receive(reader, CONTENT[1_000_000:1_500_000])
        await cancelled(reader.readview(BUDGET), reader, CONTENT[1_500_000:2_000_000])
        assert reader._unread == 2_000_000
        assert not reader.at_eof()
        receive(reader, CONTENT[2_000_000:])
        view = await reader.readview(BUDGET)
        assert view == CONTENT
        assert requests(pool) == 1
        assert not reader._has_memory

    asyncio.run(main())


def test_message_of_frames_that_is_tried_again_goes_on_in_the_same_memory() -> None:
    async def main() -> None:
        pool = Pool(max_size=BUDGET, max_bytes=BUDGET)
        reader = streams.StreamReader(pool=pool)
        header = (1_000_000).to_bytes(4, "big")
        receive(reader, header)
        await cancelled(reader.frames().__anext__(), reader, CONTENT[:500_000])
        assert reader._unread == 500_004
        receive(reader, CONTENT[500_000:1_000_000] + header)
        assert await reader.frames().__anext__() == CONTENT[:1_000_000]
        assert requests(pool) == 1
        assert await reader.read(100) == header

    asyncio.run(main())


@pytest.mark.parametrize("how", ["readexactly", "read", "readview", "_buffer", "frames"])
def test_any_other_read_gets_the_bytes_of_a_cancelled_readview(how: str) -> None:
    async def main() -> None:
        pool = Pool(max_size=BUDGET, max_bytes=BUDGET)
        content = (100_000).to_bytes(4, "big") + CONTENT[:500_000]
        reader = streams.StreamReader(pool=pool)
        await cancelled(reader.readview(BUDGET), reader, content)
        assert pool.stats().outstanding == 1
        if how == "_buffer":
            assert reader._buffer == content
        elif how == "frames":
            assert await reader.frames().__anext__() == content[4:100_004]
        else:
            n = 600_000 if how == "read" else 200_000
            assert await getattr(reader, how)(n) == content[:n]
        assert pool.stats().outstanding == 0

    asyncio.run(main())


def test_broken_connection_gives_back_what_a_cancelled_readview_left() -> None:
    async def main() -> None:
        pool = Pool(max_size=BUDGET, max_bytes=BUDGET)
        reader = streams.StreamReader(pool=pool)
        await cancelled(reader.readview(BUDGET), reader, bytes(1000))
        assert pool.stats().outstanding == 1
        reader.set_exception(ConnectionResetError())
        assert pool.stats().outstanding == 0

    asyncio.run(main())


@pytest.mark.parametrize("came", [70_000, 400_000])
@pytest.mark.parametrize("how", ["readview", "readinto", "frames", "readexactly"])
def test_error_carries_the_start_of_a_message_for_pooled_memory(how: str, came: int) -> None:
    """``bytes`` are carried as a whole, as asyncio does."""

    async def main() -> None:
        content, size = CONTENT[:came], 500_000
        reader, target = streams.StreamReader(pool=Pool()), bytearray(size)
        if how == "frames":
            content = size.to_bytes(4, "big") + content
        argument = target if how == "readinto" else size
        read = reader.frames().__anext__() if how == "frames" else getattr(reader, how)(argument)
        task = asyncio.ensure_future(read)
        await asyncio.sleep(0)
        receive(reader, content)
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await task
        total = size + 4 if how == "frames" else size
        assert caught.value.partial == (content if how == "readexactly" else content[:LIMIT])
        assert caught.value.expected == total
        assert str(caught.value) == (
            f"{len(content)} bytes read on a total of {total} expected bytes"
        )
        assert reader.at_eof()
        if how == "readinto":
            assert target[:came] == content

    asyncio.run(main())


def test_memory_that_a_transport_asked_for_in_vain_does_not_stay_in_the_budget() -> None:
    """A transport may ask where to receive to, and then nothing has come (EAGAIN)."""

    async def main() -> None:
        pool = Pool(max_size=BUDGET, max_bytes=BUDGET)
        reader = streams.StreamReader(pool=pool)
        cancelled = asyncio.ensure_future(reader.readview(BUDGET))
        await asyncio.sleep(0)
        receive(reader, CONTENT[:1000])
        reader._get_buffer()
        cancelled.cancel()
        await asyncio.wait([cancelled])
        # Another read, so that what had come is moved out of the pool.
        assert await asyncio.wait_for(reader.readview(1000), 5) == CONTENT[:1000]

    asyncio.run(main())
