"""The server of the demo. It receives messages with asyncio's streams or with bytepool.streams.

A message has a header (the number of the source file, and the size) and a payload. A worker thread
checks the payload while the event loop receives from other connections.
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import bytepool
from bytepool import streams

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

# asyncio's streams, the same code with the import changed, and messages in pooled memory.
Kind = Literal["asyncio streams", "import changed", "frames"]
HEADER = struct.Struct("!IQ")  # number of the source file, size of the payload


@dataclass(frozen=True)
class Source:
    """A file to send, with its size and digest before the run."""

    path: str
    size: int
    digest: bytes


@dataclass
class Report:
    """What a server received so far, what of it was wrong, and what it cost."""

    messages: int = 0
    payload: int = 0
    wrong_messages: int = 0
    wrong_bytes: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0  # from the first header to the last check
    loop_cpu: float = 0.0  # CPU seconds of the event loop's thread, without the checks
    page_faults: int = 0
    peak_rss: int = 0
    pool: str = ""
    stats: bytepool.Stats | None = None
    done: bool = False


def check(source: Source, message: memoryview | bytes) -> int:
    """Return how many bytes differ from the source: 0 for a correct message."""
    if hashlib.sha256(message).digest() == source.digest:
        return 0
    expected = Path(source.path).read_bytes()
    different = sum(a != b for a, b in zip(message, expected, strict=False))
    return max(different + abs(len(message) - len(expected)), 1)


class Server:
    """The state that all connections share."""

    def __init__(self, sources: Sequence[Source], kind: Kind, pool: bytepool.Pool) -> None:
        self.sources = sources
        self.kind = kind
        self.pool = pool
        self.report = Report()
        self.closed = 0
        self.first = 0.0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Receive from one client until it closes the connection."""
        try:
            if isinstance(reader, streams.StreamReader) and self.kind == "frames":
                await self.receive_frames(reader)
            else:
                while await self.receive(reader):
                    pass
        except (asyncio.IncompleteReadError, OSError) as error:
            self.report.faults.append(f"a connection broke: {error}")
        finally:
            writer.close()
            self.closed += 1

    async def receive(self, reader: asyncio.StreamReader) -> bool:
        """Receive and check one message. Return False at the end of the connection.

        This is a separate function, so that no variable holds the message after it returns.
        """
        try:
            index, size = HEADER.unpack(await reader.readexactly(HEADER.size))
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return False
        if not self.is_known(index, size):
            return False
        await self.accept(index, await reader.readexactly(size))
        return True

    async def receive_frames(self, reader: streams.StreamReader) -> None:
        """Receive and check messages in pooled memory until the client closes the connection."""
        frames = reader.frames(length_size=8, offset=4, strip=0, max_size=1 << 30)
        async for frame in frames:
            index, size = HEADER.unpack_from(frame)
            if not self.is_known(index, size):
                return
            await self.accept(index, frame[HEADER.size :])
            del frame  # or the loop would hold it while it waits for the next one

    def is_known(self, index: int, size: int) -> bool:
        """Return whether a header is one that a client of the demo sends."""
        if index < len(self.sources) and size == self.sources[index].size:
            return True
        self.report.faults.append(f"a wrong header: file {index}, {size} bytes")
        return False

    async def accept(self, index: int, message: memoryview | bytes) -> None:
        """Check one message in a worker thread."""
        report = self.report
        source = self.sources[index]
        self.first = self.first or time.monotonic()
        loop = asyncio.get_running_loop()
        wrong = await loop.run_in_executor(self.workers, check, source, message)
        report.seconds = time.monotonic() - self.first
        report.messages += 1
        report.payload += len(message)
        report.wrong_messages += wrong > 0
        report.wrong_bytes += wrong

    async def run(self, pipe: Connection, connections: int) -> None:
        """Serve ``connections`` connections, and send reports until all of them are closed."""
        if self.kind != "asyncio streams":
            listener = await streams.start_server(
                self.handle, "127.0.0.1", 0, pool=self.pool, stall_timeout=30
            )
        else:
            listener = await asyncio.start_server(self.handle, "127.0.0.1", 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        loop_cpu = time.thread_time()
        async with listener:
            with ThreadPoolExecutor(2) as self.workers:
                pipe.send(listener.sockets[0].getsockname())
                report = self.report
                while self.closed < connections:
                    await asyncio.sleep(0.1)
                    pipe.send(report)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        report.loop_cpu = time.thread_time() - loop_cpu
        report.page_faults = usage.ru_minflt - before
        report.peak_rss = usage.ru_maxrss * 1024
        if self.kind == "frames":
            report.pool, report.stats = repr(self.pool), self.pool.stats()
        report.done = True
        pipe.send(report)


def serve(pipe: Connection, sources: Sequence[Source], connections: int, kind: Kind) -> None:
    """Run the server process. It sends its address, and then reports until one is ``done``."""
    # Large enough for most libraries. Larger files are served without pooling.
    pool = bytepool.Pool(max_size=64 << 20, max_buffers=8)
    asyncio.run(Server(sources, kind, pool).run(pipe, connections))
