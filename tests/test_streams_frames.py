"""``reader.frames()`` and ``write_frame()``: length-prefixed messages."""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern
from hypothesis import given
from hypothesis import strategies as st
from streams_helpers import connected, receive, run_fixture

import bytepool
from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

run = run_fixture()

SIZES = [0, 1, 1000, 4096, 65_535, 65_536, 200_000, 3_000_000, 7, 70_000, 0, 9]


def drive(main: Callable[[streams.StreamReader], Awaitable[Any]], pool: Pool | None = None) -> Any:
    async def run() -> Any:
        return await asyncio.wait_for(main(streams.StreamReader(pool=pool)), 10)

    return asyncio.run(run())


class Writer:
    """It takes what is written, as much as ``write_frame`` needs of a StreamWriter."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: Any) -> None:
        self.data += data


def written(payload: bytes, **layout: Any) -> bytes:
    writer: Any = Writer()
    streams.write_frame(writer, payload, **layout)
    return bytes(writer.data)


@pytest.mark.parametrize("as_bytes", [False, True])
@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
def test_messages_of_all_sizes(run: Any, with_tls: bool, as_bytes: bool) -> None:
    pool = Pool(1024, 1 << 22, 8)
    received: list[bytes] = []

    async def serve(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
        frames: Any = reader.frames(as_bytes=as_bytes)  # type: ignore[call-overload]
        async for message in frames:
            assert type(message) is (bytes if as_bytes else memoryview)
            received.append(bytes(message))
            del message

    async def main() -> None:
        async with connected(serve, pool, with_tls=with_tls) as (_, writer):
            for size in SIZES:
                streams.write_frame(writer, pattern(size))
                await writer.drain()

    run(main())
    assert received == [pattern(size) for size in SIZES]
    assert pool.stats().outstanding == 0


@pytest.mark.parametrize(
    ("layout", "data", "message"),
    [
        ({}, b"\0\0\0\5hello", b"hello"),
        ({"length_size": 1}, b"\5hello", b"hello"),
        ({"length_size": 3}, b"\0\0\5hello", b"hello"),
        ({"length_size": 8, "byteorder": "little"}, b"\5\0\0\0\0\0\0\0hello", b"hello"),
        ({"length_size": 2, "offset": 2}, b"\xca\xfe\0\5hello", b"hello"),
        ({"length_size": 2, "offset": 2, "strip": 0}, b"\xca\xfe\0\5hello", b"\xca\xfe\0\5hello"),
        ({"length_size": 2, "strip": 1}, b"\0\5hello", b"\5hello"),
        ({"length_size": 2, "strip": 4}, b"\0\5hello", b"llo"),
        ({"length_size": 2, "adjustment": -2}, b"\0\7hello", b"hello"),
        ({"length_size": 2, "adjustment": 2}, b"\0\3hello", b"hello"),
    ],
)
@pytest.mark.parametrize("in_place", [1, 65_536])
def test_parameters(layout: dict[str, Any], data: bytes, message: bytes, in_place: int) -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader._in_place = in_place
        messages = [bytes(message) async for message in reader.frames(**layout)]
        assert messages == [message, message]

    async def feed_and_read(reader: streams.StreamReader) -> None:
        task = asyncio.ensure_future(main(reader))
        for i in range(2 * len(data)):
            await asyncio.sleep(0)
            receive(reader, (data + data)[i : i + 1])
        reader.feed_eof()
        await task

    drive(feed_and_read)


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ({"length_size": 0}, "length_size must be 1 to 8 bytes, not 0"),
        ({"length_size": 9}, "length_size must be 1 to 8 bytes, not 9"),
        ({"byteorder": "middle"}, "byteorder must be 'big' or 'little'"),
        ({"offset": 5000}, "at most 4096 bytes"),
        ({"strip": 5000}, "at most 4096 bytes"),
    ],
)
def test_parameters_that_make_no_sense_raise(layout: dict[str, Any], text: str) -> None:
    async def main(reader: streams.StreamReader) -> None:
        with pytest.raises(ValueError, match=text):
            reader.frames(**layout)

    drive(main)


@pytest.mark.parametrize(
    ("layout", "data", "text"),
    [
        ({"max_size": 4}, b"\0\0\0\5hello", r"5 bytes is above max_size \(4 bytes\)"),
        ({"length_size": 8}, b"\xff" * 8, "above max_size"),
        ({"adjustment": -9}, b"\0\0\0\5hello", "would end before its length field"),
        ({"strip": 10}, b"\0\0\0\5hello", "a message of 9 bytes has no 10 bytes to strip"),
    ],
)
def test_length_that_makes_no_sense_raises_before_anything_is_allocated(
    layout: dict[str, Any], data: bytes, text: str
) -> None:
    pool = Pool()

    async def main(reader: streams.StreamReader) -> None:
        reader.feed_data(data)
        frames = reader.frames(**layout)
        for _ in range(2):
            with pytest.raises(ValueError, match=text):
                await anext(frames)
        assert await reader.readexactly(len(data)) == data, "nothing was taken from the stream"

    drive(main, pool)
    assert pool.stats().peak_outstanding == 0


@pytest.mark.parametrize("sent", range(9))
@pytest.mark.parametrize("in_place", [1, 65_536])
def test_end_of_stream_in_a_message_carries_the_received_bytes(sent: int, in_place: int) -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader._in_place = in_place
        task: asyncio.Future[Any] = asyncio.ensure_future(collect(reader))
        await asyncio.sleep(0)
        for byte in b"\0\0\0\5hello"[:sent]:
            receive(reader, bytes([byte]))
            await asyncio.sleep(0)
        reader.feed_eof()
        if sent == 0:
            assert await task == []
            return
        with pytest.raises(asyncio.IncompleteReadError) as raised:
            await task
        expected = 4 if sent < 4 else 9
        assert (raised.value.partial, raised.value.expected) == (b"\0\0\0\5hello"[:sent], expected)

    drive(main)


async def collect(reader: streams.StreamReader) -> list[bytes]:
    return [bytes(message) async for message in reader.frames()]


@pytest.mark.parametrize("sent", range(10))
@pytest.mark.parametrize("in_place", [1, 65_536])
def test_message_that_is_cancelled_is_read_again_from_its_header(sent: int, in_place: int) -> None:
    pool = Pool()

    async def main(reader: streams.StreamReader) -> None:
        reader._in_place = in_place
        data = b"\0\0\0\5hello"
        task: asyncio.Future[Any] = asyncio.ensure_future(anext(reader.frames()))
        for byte in data[:sent]:
            await asyncio.sleep(0)
            receive(reader, bytes([byte]))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        receive(reader, data[sent:])
        assert await reader.readexactly(9) == data
        assert pool.stats().outstanding == 0

    drive(main, pool)


def test_other_reads_between_messages() -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader.feed_data(b"\0\0\0\1a-line\n\0\0\0\2bb")
        frames = reader.frames()
        assert bytes(await anext(frames)) == b"a"
        assert await reader.readline() == b"-line\n"
        assert bytes(await anext(frames)) == b"bb"

    drive(main)


def test_broken_connection_ends_the_iteration_with_its_error() -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader.feed_data(b"\0\0")
        task: asyncio.Future[Any] = asyncio.ensure_future(collect(reader))
        await asyncio.sleep(0)
        reader.set_exception(ConnectionResetError("gone"))
        with pytest.raises(ConnectionResetError, match="gone"):
            await task

    drive(main)


@pytest.mark.parametrize("size", [100, 100_000])
def test_message_waits_for_the_budget(size: int) -> None:
    pool = Pool(4096, 1 << 17, max_bytes=1 << 17)
    held = pool.allocate(1 << 17)

    async def main(reader: streams.StreamReader) -> None:
        task: asyncio.Future[Any] = asyncio.ensure_future(collect(reader))
        receive(reader, written(pattern(size)))
        reader.feed_eof()
        await asyncio.sleep(0.02)
        assert not task.done()
        held.release()
        assert await task == [pattern(size)]

    drive(main, pool)


def test_message_above_the_budget_raises() -> None:
    async def main(reader: streams.StreamReader) -> None:
        reader.feed_data(struct.pack("!I", 1 << 20))
        with pytest.raises(bytepool.PoolExhaustedError, match="budget"):
            await anext(reader.frames())

    drive(main, Pool(4096, 4096, max_bytes=4096))


def test_write_frame_refuses_a_length_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="256 does not fit into 1 bytes"):
        written(bytes(256), length_size=1)
    with pytest.raises(ValueError, match="2 bytes is shorter than adjustment"):
        written(b"ab", adjustment=3)


@given(
    payloads=st.lists(st.binary(max_size=300), max_size=8),
    cuts=st.lists(st.integers(1, 200), max_size=30),
    length_size=st.integers(2, 8),
    byteorder=st.sampled_from(["big", "little"]),
    header=st.binary(max_size=5),
    adjustment=st.integers(-9, 0),
    strip=st.none() | st.integers(0, 3),
    in_place=st.sampled_from([1, 20, 100, 65_536]),
    as_bytes=st.booleans(),
)
def test_written_frames_are_read_in_pieces_of_any_size(
    payloads: list[bytes],
    cuts: list[int],
    strip: int | None,
    in_place: int,
    as_bytes: bool,
    header: bytes,
    **layout: Any,
) -> None:
    stream = b"".join(written(payload, header=header, **layout) for payload in payloads)
    expected = payloads
    if strip is not None:
        # An empty message has no more to strip.
        strip = min(strip, len(header) + layout["length_size"])
        expected = [written(payload, header=header, **layout)[strip:] for payload in payloads]

    async def main(reader: streams.StreamReader) -> None:
        async def deliver() -> None:
            rest = stream
            for cut in cuts:
                receive(reader, rest[:cut])
                rest = rest[cut:]
                await asyncio.sleep(0)
            receive(reader, rest)
            reader.feed_eof()

        reader._in_place = in_place
        delivery = asyncio.ensure_future(deliver())
        frames = reader.frames(  # type: ignore[call-overload]
            offset=len(header), strip=strip, as_bytes=as_bytes, **layout
        )
        assert [bytes(message) async for message in frames] == expected
        await delivery

    pool = Pool(64, 4096, 4)
    drive(main, pool)
    assert pool.stats().outstanding == 0
