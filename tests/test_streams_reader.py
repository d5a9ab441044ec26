"""The stream reader without a socket: it is fed by hand, as a transport would."""

from __future__ import annotations

import asyncio
import os
import struct
import tracemalloc
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import pattern
from streams_helpers import run_fixture

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

run = run_fixture()


class TestReader:
    """Without a socket: the reader is fed by hand, as the transport would."""

    @pytest.fixture
    def pool(self) -> Pool:
        return Pool(64, 4096, 4)

    def drive(self, main: Callable[[streams.StreamReader], Awaitable[Any]], pool: Pool) -> Any:
        async def run() -> Any:
            return await asyncio.wait_for(main(streams.StreamReader(pool=pool)), 10)

        return asyncio.run(run())

    def test_end_of_stream_carries_the_received_bytes(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            for read in (lambda: reader.readview(10), lambda: reader.readinto(bytearray(10))):
                reader._eof = False
                reader.feed_data(b"ab")
                task = asyncio.ensure_future(read())
                await asyncio.sleep(0)
                reader.feed_data(b"cde")
                await asyncio.sleep(0)
                reader.feed_eof()
                with pytest.raises(asyncio.IncompleteReadError) as raised:
                    await task
                assert (raised.value.partial, raised.value.expected) == (b"abcde", 10)
                assert reader.at_eof()
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reader.readview(1)
            assert (raised.value.partial, raised.value.expected) == (b"", 1)
            assert len(await reader.readview(0)) == 0

        self.drive(main, pool)

    @pytest.mark.parametrize("complete", [False, True])
    def test_cancelled_read_loses_no_byte(self, pool: Pool, complete: bool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            reader.feed_data(b"01")
            task = asyncio.ensure_future(reader.readview(8))
            await asyncio.sleep(0)
            reader.feed_data(b"234567" if complete else b"2345")
            reader.feed_data(b"89" if complete else b"")
            task.cancel()  # even when everything has come and the task has not run yet
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            if not complete:
                reader.feed_data(b"6789")
            assert bytes(await reader.readview(10)) == b"0123456789"

        self.drive(main, pool)
        assert pool.stats().outstanding == 0

    def test_a_timeout_in_the_middle(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            reader.feed_data(b"abc")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readview(4000), 0.01)
            assert pool.stats().outstanding == 0
            reader.feed_data(b"def")
            assert await reader.readexactly(6) == b"abcdef"

        self.drive(main, pool)

    def test_a_second_reader_is_refused_and_the_first_goes_on(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readview(4))
            await asyncio.sleep(0)
            for read in (reader.readview(2), reader.readinto(bytearray(2)), reader.readexactly(2)):
                with pytest.raises(RuntimeError, match="already waiting for incoming data"):
                    await read
            reader.feed_data(b"abcdef")
            assert bytes(await task) == b"abcd"
            assert await reader.readexactly(2) == b"ef"

        self.drive(main, pool)

    def test_a_broken_connection_raises(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readview(4))
            await asyncio.sleep(0)
            reader.set_exception(ConnectionResetError("gone"))
            for read in (task, reader.readview(1), reader.readinto(bytearray(1))):
                with pytest.raises(ConnectionResetError, match="gone"):
                    await read

        self.drive(main, pool)
        assert pool.stats().outstanding == 0

    def test_buffers_that_can_be_filled_and_others(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            from array import array

            numbers = array("i", [0, 0])
            reader.feed_data(struct.pack("=ii", 5, -6))
            assert await reader.readinto(numbers) == 8
            assert list(numbers) == [5, -6]
            assert await reader.readinto(bytearray()) == 0
            for bad in (b"12", memoryview(bytearray(4))[::2], "12"):
                with pytest.raises(TypeError):
                    await reader.readinto(bad)  # type: ignore[arg-type]

        self.drive(main, pool)

    @pytest.mark.parametrize("size", [7, 200_000])
    def test_arrays_of_any_shape_and_dtype_are_filled(self, pool: Pool, size: int) -> None:
        async def main(reader: streams.StreamReader) -> None:
            for dtype in ("datetime64[s]", "float64", "complex128", "S3", "?", "i4,f8"):
                for shape in [(0,), (size,), (2, size), (1, 0, 3), ()]:
                    array: Any = np.empty(shape, dtype)
                    task = asyncio.ensure_future(reader.readinto(array))
                    await asyncio.sleep(0)
                    content = pattern(array.nbytes)
                    reader.feed_data(content)
                    assert await task == array.nbytes
                    assert array.tobytes() == content
            bad: Any
            for bad in (np.empty((4, 4), order="F"), np.empty(4)[::2]):
                with pytest.raises(TypeError, match="contiguous"):
                    await reader.readinto(bad)

        self.drive(main, pool)

    def test_a_length_that_is_not_to_be_trusted(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            before = pool.stats()
            with pytest.raises(ValueError, match=r"1073741824 bytes.*max_size \(1000 bytes\)"):
                await reader.readview(1 << 30, max_size=1000)
            with pytest.raises(ValueError, match="not -1"):
                await reader.readview(-1)
            with pytest.raises(TypeError):
                await reader.readview(1.5)  # type: ignore[arg-type]
            assert pool.stats() == before
            reader.feed_data(bytes(1000))
            assert await reader.readview(1000, max_size=1000) == bytes(1000)

        self.drive(main, pool)

    @pytest.mark.thread_unsafe(reason="it measures the process")
    def test_a_promise_of_much_costs_no_memory(self) -> None:
        def resident() -> int:
            with open("/proc/self/statm") as statm:  # noqa: PTH123
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        async def main(reader: streams.StreamReader) -> None:
            before = resident()
            task = asyncio.ensure_future(reader.readview(1 << 30))
            await asyncio.sleep(0)
            reader.feed_data(b"ten bytes!")
            await asyncio.sleep(0)
            assert resident() - before < 8 << 20
            task.cancel()

        self.drive(main, Pool())


@pytest.mark.parametrize("method", ["readexactly", "readview", "readuntil", "read"])
def test_a_connection_that_breaks_before_the_reader_has_run_ends_the_read(method: str) -> None:
    """Asyncio's own readexactly() waits for ever then."""

    async def main() -> None:
        reader = streams.StreamReader(pool=Pool())
        read = getattr(reader, method)(*([b"end"] if method == "readuntil" else [10]))
        task = asyncio.ensure_future(read)
        await asyncio.sleep(0)
        reader.feed_data(b"only")
        reader.set_exception(ConnectionResetError("broken"))
        if method == "read":
            assert await task == b"only"
        else:
            with pytest.raises(ConnectionResetError, match="broken"):
                await asyncio.wait_for(task, 5)

    asyncio.run(main())


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_reader_that_comes_before_another_one_has_left_is_woken(run: Any, size: int) -> None:
    """Of small reads the second may get what has come, as with asyncio; nothing comes twice."""

    async def main() -> None:
        reader = streams.StreamReader()
        targets = [bytearray(size), bytearray(size)]
        first = asyncio.create_task(reader.readinto(targets[0]))
        await asyncio.sleep(0)
        reader.feed_data(b"0" * size)  # it is woken, and has not run yet
        asyncio.get_running_loop().call_later(0.01, reader.feed_data, b"a" * size)
        async with asyncio.timeout(5):
            assert await reader.readinto(targets[1]) == size
        assert await first == size
        assert sorted(targets) == [b"0" * size, b"a" * size]

    run(main())


def test_an_error_of_readinto_does_not_keep_the_buffer() -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        reader.feed_data(b"abc")
        reader.feed_eof()
        buffer = bytearray(10)
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await reader.readinto(buffer)
        buffer.extend(b"which needs a buffer that nobody has")
        assert error.value.partial == b"abc"

    asyncio.run(main())


@pytest.mark.thread_unsafe(reason="tracemalloc counts the memory of all threads")
def test_buffer_that_was_only_looked_at_costs_nothing_later() -> None:
    """redis-py looks at ``reader._buffer`` before every command."""

    async def main() -> int:
        reader = streams.StreamReader(pool=Pool())
        assert not reader._buffer
        tracemalloc.start()
        try:
            reader.feed_data(chunk)
            assert reader._buffer == chunk  # a copy, which is gone by now
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            reader.feed_data(b"x")
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    chunk = bytes(512 << 10)
    assert asyncio.run(main()) < len(chunk) // 2


def test_end_of_stream_gives_pooled_memory_back_that_a_transport_was_to_fill() -> None:
    async def main() -> None:
        for broken in (False, True):
            pool = Pool()
            reader = streams.StreamReader(pool=pool)
            task = asyncio.ensure_future(reader.readview(100_000))
            await asyncio.sleep(0)
            assert len(reader._get_buffer()) == 100_000  # and then nothing is received
            if broken:
                reader.set_exception(ConnectionResetError())
            else:
                reader.feed_eof()
            await asyncio.wait([task])
            assert task.exception() is not None
            del task
            assert pool.stats().outstanding == 0

    asyncio.run(main())
