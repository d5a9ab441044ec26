"""A TCP server that receives length-prefixed messages straight into pooled buffers.

A message is a header (which source file, how many bytes) and the payload. While the header is
awaited, a connection holds 12 bytes; the payload's buffer is taken from the pool when its length is
known, filled by the event loop without a copy, checked in a worker thread, and released there.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import bytepool

HEADER = struct.Struct("!IQ")  # index of the source, bytes of payload


@dataclass(frozen=True)
class Source:
    """A file as it was before the run."""

    path: str
    size: int
    digest: bytes


@dataclass
class Tally:
    """What the server has received, and how much of it was wrong."""

    messages: int = 0
    payload: int = 0
    wrong_messages: int = 0
    wrong_bytes: int = 0
    faults: list[str] = field(default_factory=list)
    first: float = math.inf
    last: float = math.inf

    def seconds(self) -> float:
        """From the first message to the last one so far."""
        return max(self.last - self.first, 1e-9) if self.messages else math.inf


@dataclass
class Message:
    """A received message, bound to the allocator of its bytes; whoever is last releases it."""

    source: Source
    alloc: bytepool.Allocator


def check(message: Message) -> int:
    """Return how many bytes differ from the source, 0 for a good message, and release the buffer.

    A function of its own, so that its views are gone when it returns.
    """
    with message.alloc as alloc:
        if hashlib.sha256(alloc.bytes()).digest() == message.source.digest:
            return 0
        expected = Path(message.source.path).read_bytes()
        different = sum(a != b for a, b in zip(alloc.bytes(), expected, strict=False))
        return max(different + abs(alloc.size - len(expected)), 1)


class Receiver(asyncio.BufferedProtocol):
    """One connection. It reads nothing more while a message of it is being checked."""

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.header = bytearray(HEADER.size)
        self.message: Message | None = None
        self.filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server.connections.add(self)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Offer exactly what is missing: of the payload, or of the next header."""
        target = self.message.alloc.bytes() if self.message else memoryview(self.header)
        return target[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        """Count what came, and see whether header or payload is complete."""
        self.filled += nbytes
        if self.message is None:
            if self.filled < HEADER.size:
                return
            self.begin(*HEADER.unpack(self.header))
        if self.message is not None and self.filled == self.message.alloc.size:
            message, self.message, self.filled = self.message, None, 0
            self.transport.pause_reading()
            work = asyncio.get_running_loop().run_in_executor(self.server.workers, check, message)
            work.add_done_callback(lambda done: self.checked(message.source, done))

    def begin(self, index: int, size: int) -> None:
        """Take a buffer for the payload, unless the header cannot be true."""
        self.filled = 0
        if index >= len(self.server.sources) or size != self.server.sources[index].size:
            self.server.tally.faults.append(f"a header that promised file {index}, {size} bytes")
            self.transport.abort()
            return
        self.server.tally.first = min(self.server.tally.first, time.monotonic())
        self.message = Message(self.server.sources[index], self.server.pool.allocate(size))

    def checked(self, source: Source, done: asyncio.Future[int]) -> None:
        """Enter the result of a check, and go on reading."""
        wrong = done.result()
        tally = self.server.tally
        tally.messages += 1
        tally.last = time.monotonic()
        tally.payload += source.size
        tally.wrong_messages += wrong > 0
        tally.wrong_bytes += wrong
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a message that broke off; its bytes go home by themselves."""
        if exc is not None or self.message is not None or self.filled:
            self.server.tally.faults.append(f"a connection broke off: {exc}")
        self.message = None
        self.server.connections.discard(self)


class Server:
    """Everything that the connections share."""

    def __init__(self, pool: bytepool.Pool, sources: Sequence[Source]) -> None:
        self.pool = pool
        self.sources = sources
        self.tally = Tally()
        self.connections: set[Receiver] = set()
        self.workers = ThreadPoolExecutor(2)

    async def listen(self) -> asyncio.Server:
        """Begin to accept connections on a free port of this machine alone."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: Receiver(self), "127.0.0.1", 0)
