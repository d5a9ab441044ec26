"""What a read returns is a coroutine to all that takes one, though it has no Python frame."""

from __future__ import annotations

import asyncio
import collections.abc
import contextlib
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

READS: dict[str, Callable[[streams.StreamReader], Any]] = {
    "readexactly": lambda reader: reader.readexactly(3),
    "read": lambda reader: reader.read(3),
    "readuntil": lambda reader: reader.readuntil(b"c"),
    "readline": lambda reader: reader.readline(),
    "readview": lambda reader: reader.readview(3),
    "readinto": lambda reader: reader.readinto(bytearray(3)),
    "frames": lambda reader: anext(reader.frames(length_size=1)),
}


def drive(main: Callable[[streams.StreamReader], Awaitable[Any]], **options: Any) -> Any:
    async def run() -> Any:
        return await asyncio.wait_for(main(streams.StreamReader(pool=Pool())), 10)

    return asyncio.run(run(), **options)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("name", READS)
def test_reads_are_accepted_wherever_coroutines_are(name: str, debug: bool) -> None:
    async def main(reader: streams.StreamReader) -> None:
        loop = asyncio.get_running_loop()
        ways: list[Callable[[Any], Awaitable[Any]]] = [
            asyncio.create_task,
            asyncio.ensure_future,
            lambda read: asyncio.wait_for(read, 5),
            lambda read: asyncio.shield(read),
            lambda read: asyncio.gather(read),
            lambda read: loop.create_task(read, name="a read"),
            lambda read: read,
        ]
        for way in ways:
            for early in (True, False):
                read = READS[name](reader)
                assert isinstance(read, collections.abc.Coroutine)
                assert asyncio.iscoroutine(read)
                data = b"\2bc\n" if name == "frames" else b"abc\n"
                if early:
                    reader.feed_data(data)
                else:
                    loop.call_later(0.001, reader.feed_data, data)
                result = await way(read)
                result = result[0] if isinstance(result, list) else result
                if name == "readinto":
                    assert result == 3
                else:
                    expected = {"readline": b"abc\n", "frames": b"bc"}
                    assert bytes(result) == expected.get(name, b"abc")
                if name != "readline":
                    assert await reader.read(1) == b"\n"

    drive(main, debug=debug)


@pytest.mark.parametrize("name", READS)
def test_cancelled_read_leaves_the_reader_usable(name: str) -> None:
    async def main(reader: streams.StreamReader) -> None:
        for _ in range(3):
            task = asyncio.ensure_future(READS[name](reader))
            await asyncio.sleep(0)
            assert reader._waiter is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert reader._waiter is None
        reader.feed_data(b"all that came")
        assert await reader.readexactly(13) == b"all that came"

    drive(main)


def test_nothing_is_read_before_it_is_awaited() -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader.feed_data(b"abcdef")
        second, first = reader.readexactly(3), reader.readexactly(3)
        assert await first == b"abc"
        assert await second == b"def"

    drive(main)


def test_error_of_an_argument_is_raised_when_it_is_awaited() -> None:
    async def main(reader: streams.StreamReader) -> None:
        read = reader.readexactly(-1)
        with pytest.raises(ValueError, match="can not be less than zero"):
            await read

    drive(main)


def test_read_that_is_never_awaited_warns_as_a_coroutine_does() -> None:
    async def main(reader: streams.StreamReader) -> None:
        read = reader.readexactly(3)
        del read

    with pytest.warns(RuntimeWarning, match=r"'StreamReader.readexactly' was never awaited"):
        drive(main)


def test_awaited_twice_raises() -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader.feed_data(b"abcdef")
        read: Any = reader.readexactly(3)
        assert await read == b"abc"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await read
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            read.throw(ValueError())

    drive(main)


def test_throw_and_close_before_and_in_the_middle() -> None:
    async def main(reader: streams.StreamReader) -> None:
        for begun in (False, True):
            for error in (ValueError("it"), ValueError):
                read: Any = reader.readexactly(100_000)
                if begun:
                    read.send(None)
                    reader.feed_data(b"abc")
                with pytest.raises(ValueError, match=r"it|^$"):
                    read.throw(error)
            read = reader.readexactly(3)
            if begun:
                assert await reader.readexactly(6) == b"abcabc"
                read.send(None)
            read.close()
            read.close()
            assert reader._waiter is None

    drive(main)


def test_task_names_the_read() -> None:
    async def main(reader: streams.StreamReader) -> None:
        task = asyncio.ensure_future(reader.readexactly(3))
        await asyncio.sleep(0)
        assert "StreamReader.readexactly" in repr(task)
        task.print_stack(file=None)
        task.cancel()

    drive(main)


def test_reader_and_task_that_only_know_each_other_are_collected() -> None:
    async def main(_: streams.StreamReader) -> None:
        reader = streams.StreamReader(pool=Pool())
        read = reader.readexactly(100_000)
        future = read.send(None)
        future.add_done_callback(lambda _, read=read: read)
        reader.feed_data(b"abc")
        gone = weakref.ref(reader)
        del reader, read, future
        gc.collect()
        assert gone() is None

    with contextlib.suppress(RuntimeWarning):
        drive(main)
