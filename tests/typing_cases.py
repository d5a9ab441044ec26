"""Code that type checkers must accept, and code that they must reject; it never runs.

``test_typing.py`` runs mypy and pyright on this file. A line with an ignore comment is an error of
the user, and a checker that does not find the error complains about the comment.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, assert_type

import numpy as np

import bytepool
from bytepool import Allocator, BucketStats, Pool, Stats, blocking, decay, streams, tracking
from bytepool.tracking import AllocationRecord

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine


def pools(pool: Pool) -> None:
    assert_type(Pool(), Pool)
    assert_type(Pool(np.int64(64), max_size=1 << 20, name="x", idle_timeout=None), Pool)
    assert_type(Pool.null(), Pool)
    assert_type(bytepool.default_pool(), Pool)
    with pool as entered:
        assert_type(entered, Pool)
    assert_type(pool.trim(100), int)
    assert_type(pool.decay(), int)
    assert_type(pool.closed, bool)
    assert_type(pool.name, str | None)
    assert_type(pool.max_size, int)
    assert_type(pool.max_bytes, int | None)
    assert_type(pool.idle_timeout, float | None)
    assert_type(pool.zero, Literal["never", "release", "allocate"])
    assert_type(pool.track, Literal["off", "sampled", "all"])
    pool.track = "all"

    Pool(1.5)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Pool(zero="often")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    Pool(64, 128, 4, "name")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    pool.track = "on"  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue]
    pool.max_size = 1  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def buffers(pool: Pool) -> None:
    assert_type(pool.view(100, timeout=1.0), memoryview)
    assert_type(pool.allocator(), Allocator)
    with pool.allocate(100, timeout=None) as alloc:
        assert_type(alloc, Allocator)
        assert_type(alloc.bytes(), memoryview)
    assert_type(alloc.allocate(np.uint8(5), timeout=1), memoryview)
    assert_type(alloc.size, int)
    alloc.release()

    pool.view("100")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    pool.allocate(100, 1.0)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    Allocator(pool)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


async def waiting(pool: Pool) -> None:
    coroutine: Coroutine[Any, Any, Allocator] = pool.allocate_async(100)
    assert_type(await coroutine, Allocator)
    async with asyncio.timeout(1):
        task = asyncio.create_task(pool.allocate_async(100))
        assert_type(task, "asyncio.Task[Allocator]")


def observing(pool: Pool) -> None:
    assert_type(pool.stats(), Stats)
    assert_type(pool.stats() - pool.stats(), Stats)
    assert_type(pool.stats().buckets, tuple[BucketStats, ...])
    assert_type(pool.stats().hit_rate, float)
    assert_type(pool.stats().freed, dict[str, int])
    assert_type(pool.stats().as_dict(), dict[str, Any])
    assert_type(pool.tracked(), list[AllocationRecord])
    for record in tracking.tracked():
        assert_type(record, AllocationRecord)
        assert_type((record.size, record.age, record.released), tuple[int, float, bool])
        assert_type(record.thread, str)
        assert_type(record.origin, list[str])
        assert_type(record.holders(), list[str])
    with decay.in_thread(pool) as nothing:
        assert_type(nothing, None)

    pool.stats().outstanding = 1  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]


def receiving(pool: Pool, sock: socket.socket) -> None:
    assert_type(blocking.recv_exactly(sock, 100, pool), memoryview)
    assert_type(blocking.read_file("name", pool), memoryview)


async def on_pooled_stream(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
    assert_type(await reader.readview(100, max_size=1000), memoryview)
    assert_type(await reader.readinto(bytearray(100)), int)
    assert_type(await reader.readexactly(100), bytes)
    assert_type(writer.transport, asyncio.WriteTransport)


async def on_asyncio_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readexactly(100))


def on_stream(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
    assert_type((reader.at_eof(), writer.is_closing()), tuple[bool, bool])


async def on_socket(reader: socket.socket, writer: streams.StreamWriter) -> None:
    writer.write(reader.recv(1))


async def serving(pool: Pool) -> None:
    assert_type(await streams.start_server(on_pooled_stream, "localhost", 0), asyncio.Server)
    await streams.start_server(on_asyncio_stream, "localhost", 0, pool=pool)
    await streams.start_server(on_stream, "localhost", 0)
    await streams.start_server(
        lambda reader, _: assert_type(reader, streams.StreamReader).feed_eof(), "localhost", 0
    )
    await streams.start_unix_server(on_pooled_stream, "path", pool=pool)
    reader, writer = await streams.open_connection("localhost", 0, pool=pool)
    assert_type(reader, streams.StreamReader)
    assert_type(writer, streams.StreamWriter)

    await streams.start_server(on_socket)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await streams.start_unix_server(on_socket)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
