"""How far a connection reads ahead of its tasks, and when its transport is paused."""

from __future__ import annotations

import asyncio
import platform
import subprocess
import sys
from typing import Any

import pytest
from streams_helpers import connected, receive, run_fixture

from bytepool import Pool, streams

run = run_fixture()

MUCH = 256 << 10  # above the 128 KiB of unread bytes at which asyncio's streams pause


class Transport:
    """It counts what flow control does."""

    def __init__(self) -> None:
        self.paused = self.resumed = 0

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.resumed += 1

    def is_closing(self) -> bool:
        return False


def reader_over(transport: Any) -> streams.StreamReader:
    reader = streams.StreamReader()
    reader.set_transport(transport)
    return reader


@pytest.mark.parametrize("method", ["frames", "readexactly"])
def test_a_task_that_keeps_up_does_not_pause_the_transport(method: str) -> None:
    """Each pause and resumption would cost two system calls for each ``recv``."""

    async def consume(reader: streams.StreamReader) -> int:
        count = 0
        if method == "frames":
            async for message in reader.frames():
                count += len(message)
            return count
        while not reader.at_eof():
            size = int.from_bytes(await reader.readexactly(4), "big")
            count += len(await reader.readexactly(size))
            if count == 20 * MUCH:
                break
        return count

    async def main() -> None:
        transport = Transport()
        reader = reader_over(transport)
        task = asyncio.ensure_future(consume(reader))
        message = (4096).to_bytes(4, "big") + bytes(4096)
        for _ in range(20):
            await asyncio.sleep(0)
            receive(reader, message * (MUCH // 4096))
        await asyncio.sleep(0)
        reader.feed_eof()
        assert await task == 20 * MUCH
        assert (transport.paused, transport.resumed) == (0, 0)

    asyncio.run(main())


def test_unread_bytes_pause_the_transport_once_the_tasks_have_run() -> None:
    async def main() -> None:
        transport = Transport()
        reader = reader_over(transport)
        receive(reader, bytes(MUCH))
        assert transport.paused == 0
        await asyncio.sleep(0)
        assert transport.paused == 1
        await reader.readexactly(MUCH // 2)
        assert transport.resumed == 0
        await reader.readexactly(MUCH // 2)
        assert (transport.paused, transport.resumed) == (1, 1)

    asyncio.run(main())


def test_a_transport_of_uvloop_with_tls_is_paused_at_once() -> None:
    """It decrypts all that it has before a task runs: the peak memory of a server was doubled."""

    class WithTLS(Transport):
        def get_extra_info(self, name: str) -> object:
            return {"sslcontext": "a context"}[name]

    WithTLS.__module__ = "uvloop.loop"

    async def main() -> None:
        transport = WithTLS()
        receive(reader_over(transport), bytes(MUCH))
        assert transport.paused == 1

    asyncio.run(main())


def test_a_transport_that_closes_before_the_tasks_have_run_is_not_paused() -> None:
    class Closing(Transport):
        closing = False

        def is_closing(self) -> bool:
            return self.closing

    async def main() -> None:
        transport = Closing()
        reader = reader_over(transport)
        receive(reader, bytes(MUCH))
        transport.closing = True
        await asyncio.sleep(0)
        assert transport.paused == 0

    asyncio.run(main())


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
def test_nobody_reads_and_the_peer_is_held_back(run: Any, with_tls: bool) -> None:
    """At most a window more than the limit at which the transport is paused is read ahead."""
    held: list[int] = []

    async def write_for_ever(writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(bytes(1 << 20))
            await writer.drain()

    async def do_not_read(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.3)
        held.append(len(reader._buffer))
        writer.transport.abort()

    async def main() -> None:
        async with connected(do_not_read, Pool(), with_tls=with_tls) as (_, writer):
            with pytest.raises(OSError):  # noqa: PT011 - of the loop's choice
                await write_for_ever(writer)

    run(main())
    assert 128 << 10 < held[0] <= (128 << 10) + 2 * MUCH


FAULTS = """
import asyncio, random, resource, sys
from collections import deque
from bytepool import streams

async def main():
    reader, live, total = streams.StreamReader(), deque(maxlen=8), 0
    choose = random.Random(1)
    for turn in range(400):
        if turn == 100:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        n = int((64 << 10) * 64 ** choose.random())
        task = asyncio.ensure_future(reader.readexactly(n))
        await asyncio.sleep(0)
        while n:
            view = reader._get_buffer()
            view[::4096] = bytes(len(view[::4096]))
            count = min(n, len(view))
            del view
            reader._buffer_updated(count)
            n -= count
            total += count if turn >= 100 else 0
        live.append(await task)
        del task
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(faults / total * 1e6)

asyncio.run(main())
"""


@pytest.mark.thread_unsafe(reason="it measures the process")
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is about glibc's malloc")
def test_pages_of_freed_bytes_objects_are_used_again() -> None:
    """By default glibc returns them to the system, and 77 of 244 pages a MB are faulted anew."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True, timeout=60
    )
    assert float(done.stdout) < 20
