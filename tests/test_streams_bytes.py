"""``bytes`` that are received in place: no copy, and no published object ever changes."""

from __future__ import annotations

import asyncio
import ctypes
import random
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import pattern
from hypothesis import given
from hypothesis import strategies as st
from streams_helpers import connected, run_fixture, send_frame

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

run = run_fixture()

N = 100_000


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def address_of_bytes(content: bytes) -> int:
    return id(content) + bytes.__basicsize__ - 1


@pytest.mark.parametrize("how", ["readexactly", "readview", "readinto", "frames"])
def test_large_reads_are_received_in_place(
    run: Any, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 messages of 1 MiB, only what comes with the headers is copied."""
    size, in_place = 1 << 20, 0
    received: list[tuple[int, int]] = []
    get_buffer = streams.StreamReaderProtocol.get_buffer

    def note(self: streams.StreamReaderProtocol, sizehint: int) -> memoryview:
        view = get_buffer(self, sizehint)
        received.append((address(view), len(view)))
        return view

    async def consume(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
        nonlocal in_place
        frames = reader.frames(length_size=8)
        for _i in range(30):
            received.clear()
            if how == "frames":
                message: Any = await anext(frames)
            else:
                assert len(await reader.readexactly(8)) == 8
                if how == "readinto":
                    message = memoryview(bytearray(size))
                    assert await reader.readinto(message) == size
                else:
                    message = await getattr(reader, how)(size)
            assert message == bytes(size)
            start = address_of_bytes(message) if how == "readexactly" else address(message)
            # Where the first receive into it began, the bytes before were copied.
            inside = [at - start for at, _ in received if start <= at < start + size]
            in_place += size - min(inside, default=size)

    async def main() -> None:
        async with connected(consume, Pool(1024, 1 << 20, 4)) as (_, writer):
            for _ in range(30):
                await send_frame(writer, bytes(size))

    monkeypatch.setattr(streams.StreamReaderProtocol, "get_buffer", note)
    run(main())
    assert in_place > 0.95 * 30 * size


class Transport:
    """It receives for a reader, and does not behave."""

    def __init__(self, reader: streams.StreamReader, keep: Callable[[memoryview], Any]) -> None:
        self.reader, self.keep = reader, keep
        self.kept: list[Any] = []

    def receive(self, data: bytes) -> None:
        while data:
            view = self.reader._get_buffer()
            n = min(len(view), len(data))
            view[:n] = data[:n]
            self.kept.append(self.keep(view))
            del view
            self.reader._buffer_updated(n)
            data = data[n:]

    def write_to_all_that_was_kept(self) -> None:
        for kept in self.kept:
            if isinstance(kept, memoryview):
                kept[:] = b"\xee" * len(kept)
            elif isinstance(kept, np.ndarray):
                kept[:] = 0xEE
            elif kept is not None:
                try:
                    again = memoryview(kept)
                except BufferError:
                    continue  # its bytes were handed out
                again[:] = b"\xee" * len(again)


KEEP: dict[str, Callable[[memoryview], Any]] = {
    "the view": lambda view: view,
    "a slice": lambda view: view[1:],
    "a copy of the view": memoryview,
    "the exporter": lambda view: view.obj,
    "an array": lambda view: np.frombuffer(view, np.uint8),
    "an array without an export": lambda view: np.ndarray(len(view), np.uint8, view),
}


async def read_in_turns(reader: streams.StreamReader, deliver: Callable[[], None]) -> bytes:
    task = asyncio.ensure_future(reader.readexactly(N))
    await asyncio.sleep(0)
    deliver()
    return await asyncio.wait_for(task, 5)


@pytest.mark.parametrize("keep", KEEP)
def test_a_view_that_a_transport_keeps_does_not_reach_the_result(keep: str) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        transport = Transport(reader, KEEP[keep])
        content = pattern(N)

        def deliver() -> None:
            transport.receive(content[:60_000])
            transport.receive(content[60_000:])

        result = await read_in_turns(reader, deliver)
        transport.write_to_all_that_was_kept()
        assert result == content
        assert hash(result) == hash(bytes(bytearray(content)))

    asyncio.run(main())


def test_result_is_the_very_memory_that_was_filled() -> None:
    """Without this, the tests above would pass with a copy of every result."""

    async def main() -> None:
        reader = streams.StreamReader()
        seen: list[int] = []
        transport = Transport(reader, lambda view: seen.append(address(view)))
        result = await read_in_turns(reader, lambda: transport.receive(pattern(N)))
        assert seen == [address_of_bytes(result)]
        for _ in range(3):  # the event loop drops the finished task
            await asyncio.sleep(0)
        other = object()
        assert sys.getrefcount(result) == sys.getrefcount(other)
        assert result == pattern(N)

    asyncio.run(main())


@pytest.mark.parametrize("last", [1, 2, 5000])
def test_result_is_returned_only_when_its_last_bytes_are_received(last: int) -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        transport = Transport(reader, lambda _: None)
        content = pattern(N)
        task = asyncio.ensure_future(reader.readexactly(N))
        await asyncio.sleep(0)
        transport.receive(content[:-last])
        await asyncio.sleep(0.01)
        assert not task.done()
        transport.receive(content[-last:])
        assert await asyncio.wait_for(task, 5) == content

    asyncio.run(main())


class TestTransportThatDoesNotBehave:
    def drive(self, main: Callable[[streams.StreamReader], Awaitable[None]]) -> None:
        async def run() -> None:
            await asyncio.wait_for(main(streams.StreamReader()), 10)

        asyncio.run(run())

    def test_more_than_the_buffer_is_refused(self) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readexactly(N))
            await asyncio.sleep(0)
            view = reader._get_buffer()
            assert len(view) == N
            with pytest.raises(ValueError, match=r"buffer_updated\(100001\).* 100000 bytes"):
                reader._buffer_updated(N + 1)
            task.cancel()

        self.drive(main)

    def test_buffer_updated_twice_is_refused(self) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readexactly(N))
            await asyncio.sleep(0)
            reader._get_buffer()[:3] = b"abc"
            reader._buffer_updated(3)
            with pytest.raises(RuntimeError, match="without a buffer"):
                reader._buffer_updated(3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await reader.read(10) == b"abc"

        self.drive(main)

    def test_bytes_for_a_read_that_was_cancelled_meanwhile_are_not_lost(self) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readexactly(N))
            await asyncio.sleep(0)
            reader.feed_data(b"ab")
            view = reader._get_buffer()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            view[:3] = b"cde"
            reader._buffer_updated(3)
            assert await reader.readexactly(5) == b"abcde"

        self.drive(main)

    def test_bytes_for_memory_that_was_filled_otherwise_come_next(self) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readexactly(N))
            await asyncio.sleep(0)
            view = reader._get_buffer()
            reader.feed_data(pattern(N))
            view[:3] = b"new"
            reader._buffer_updated(3)
            assert (await task)[3:] == pattern(N)[3:]
            assert await reader.readexactly(3) == b"new"

        self.drive(main)

    def test_partial_bytes_at_the_end_of_stream_do_not_change(self) -> None:
        async def main(reader: streams.StreamReader) -> None:
            transport = Transport(reader, KEEP["the view"])
            task = asyncio.ensure_future(reader.readexactly(N))
            await asyncio.sleep(0)
            transport.receive(b"part")
            reader.feed_eof()
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await task
            transport.write_to_all_that_was_kept()
            assert (raised.value.partial, raised.value.expected) == (b"part", N)

        self.drive(main)


def test_a_read_that_is_tried_again_goes_on_in_the_same_memory() -> None:
    """A timeout that is short costs no copies."""

    async def main() -> None:
        reader = streams.StreamReader()
        seen: list[int] = []
        transport = Transport(reader, lambda view: seen.append(address(view)))
        content = pattern(N)
        for i in range(0, N, 10_000):
            task = asyncio.ensure_future(reader.readexactly(N))
            await asyncio.sleep(0)
            transport.receive(content[i : i + 10_000])
            if i + 10_000 < N:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        result = await task
        assert result == content

    asyncio.run(main())


@given(seed=st.integers(0, 2**32), keep=st.sampled_from(list(KEEP)))
def test_no_result_changes_whatever_the_transport_does(seed: int, keep: str) -> None:
    choose = random.Random(seed)

    async def main() -> None:
        reader = streams.StreamReader(limit=500)
        reader._in_place = choose.choice([1, 50, 1000])
        transport = Transport(reader, KEEP[keep])
        stream = random.Random(1).randbytes(20_000)
        results: list[bytes] = []
        sent = read = 0
        task: asyncio.Future[bytes] | None = None
        while read < len(stream):
            if task is None:
                n = min(choose.choice([1, 40, 700, 3000]), len(stream) - read)
                task = asyncio.ensure_future(choose.choice([reader.readexactly, reader.read])(n))
            await asyncio.sleep(0)
            if task.done():
                results.append(task.result())
                read += len(results[-1])
                task = None
            elif choose.random() < 0.2:
                task.cancel()
                await asyncio.wait([task])
                task = None
            else:
                n = choose.choice([1, 30, 800])
                transport.receive(stream[sent : sent + n])
                sent += n
                # What lies ahead may be written to by who kept it, as with any transport: not here.
                transport.kept = transport.kept[-choose.randrange(4) :]
        assert b"".join(results) == stream
        transport.write_to_all_that_was_kept()
        assert b"".join(results) == stream

    asyncio.run(main())
