"""The clients of the HTTP soak: uploads, and many ways to break one off or get it wrong."""

from __future__ import annotations

import asyncio
import random
import time
import zlib
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field

from soak_server import KIB, MAX_BODY, MIB

PATIENCE = 30  # seconds that a client waits for the server, which is far more than the server needs
DATA = random.Random(0).randbytes(MAX_BODY + MIB)


@dataclass
class Findings:
    """What all clients together have done, and what the server did wrong."""

    events: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


class Client:
    """One connection after another, with one random event after another on each."""

    def __init__(self, address: tuple[str, int], findings: Findings, seed: int) -> None:
        self.address = address
        self.findings = findings
        self.choose = random.Random(seed)
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter

    async def connect(self) -> None:
        self.reader, self.writer = await asyncio.open_connection(*self.address)

    async def run(self, end: float) -> None:
        events = [self.upload] * 4 + [self.slowly, self.pipeline, self.chunked, self.disconnect] * 2
        events += [self.too_large, self.early, self.stall, self.too_short, self.too_long, self.bad]
        while time.monotonic() < end:
            await self.connect()
            kept = True
            while kept and time.monotonic() < end:
                event = self.choose.choice(events)
                self.findings.events[event.__name__] += 1
                try:
                    async with asyncio.timeout(PATIENCE):
                        kept = await event()
                # TimeoutError is an OSError. uvloop raises RuntimeError for a closed connection.
                except (OSError, EOFError, RuntimeError) as error:
                    self.findings.failures.append(f"{event.__name__}: {error!r}")
                    kept = False
            self.writer.close()
            with suppress(OSError):
                await self.writer.wait_closed()

    # Each event returns whether the connection can be used again.

    async def upload(self) -> bool:
        self.send(body := self.body())
        return await self.expect(200, body)

    async def slowly(self) -> bool:
        """Upload a large body in parts, so that the application has to wait for it."""
        body = self.body(MIB)
        self.writer.write(self.head(f"Content-Length: {len(body)}"))
        for begin in range(0, len(body), 200_000):
            self.writer.write(body[begin : begin + 200_000])
            await asyncio.sleep(self.choose.random() / 100)
        return await self.expect(200, body)

    async def pipeline(self) -> bool:
        bodies = [self.body() for _ in range(self.choose.randint(2, 4))]
        for body in bodies:
            self.send(body)
        return all([await self.expect(200, body) for body in bodies])

    async def chunked(self) -> bool:
        """Upload without a Content-Length. Its buffer grows, for which the budget may not do."""
        body = self.body()
        self.writer.write(self.head("Transfer-Encoding: chunked"))
        for begin in range(0, len(body), 100_000):
            chunk = body[begin : begin + 100_000]
            self.writer.writelines([b"%x\r\n" % len(chunk), chunk, b"\r\n"])
        self.writer.write(b"0\r\n\r\n")
        with suppress(ConnectionError, EOFError):  # the server may not read all before it answers
            status, reply = await self.response()
            if status == 503:
                self.findings.events["refused for the budget"] += 1
            elif (status, reply) != (200, b"%d" % zlib.crc32(body)):
                self.findings.failures.append(f"chunked: {status} {reply!r}")
        return False

    async def disconnect(self) -> bool:
        """Close or reset the connection, at any byte of a request."""
        body = self.body()
        request = self.head(f"Content-Length: {len(body)}") + bytes(body)
        self.writer.write(request[: self.choose.randrange(len(request))])
        await asyncio.sleep(self.choose.random() / 50)
        if self.choose.random() < 0.5:
            self.writer.transport.abort()
        return False

    async def stall(self) -> bool:
        """Send a part of a body, and wait until the server loses its patience."""
        body = self.body(256 * KIB)
        self.writer.write(self.head(f"Content-Length: {len(body)}"))
        self.writer.write(body[: self.choose.randrange(len(body))])
        return await self.closed()

    async def too_short(self) -> bool:
        """Send more bytes than were announced, which are no request."""
        body = self.body(KIB)
        self.send(body[:-900], beyond=body[-900:])
        return await self.closed()

    async def too_long(self) -> bool:
        """Send fewer bytes than were announced, and no more after them."""
        body = self.body(KIB)
        self.writer.write(self.head(f"Content-Length: {len(body)}"))
        self.writer.write(body[: self.choose.randrange(len(body))])
        self.writer.write_eof()
        return await self.closed()

    async def bad(self) -> bool:
        wrong = ["-1", "1x", "1\r\nContent-Length: 2", "9" * 40, ""]
        self.writer.write(self.head(f"Content-Length: {self.choose.choice(wrong)}"))
        self.writer.write_eof()
        return await self.closed()

    async def too_large(self) -> bool:
        size = self.choose.choice([MAX_BODY + 1, 1 << 50])
        self.writer.write(
            self.head(f"Content-Length: {size}", self.choose.choice(["whole", "parts"]))
        )
        await self.expect(413)
        return False

    async def early(self) -> bool:
        """Upload to an application that answers without the body."""
        self.send(self.body(), path="early")
        with suppress(ConnectionError, EOFError):  # the server may close before it has read all
            await self.response()
        return False

    # What they consist of

    def body(self, least: int = 1) -> memoryview:
        """Return random bytes: as many small as large ones, on a scale of powers."""
        size = int(least * (MAX_BODY / least) ** self.choose.random())
        begin = self.choose.randrange(len(DATA) - size)
        return memoryview(DATA)[begin : begin + size]

    def head(self, field: str, path: str = "") -> bytes:
        path = path or self.choose.choice(["whole", "parts", "hasty", "unchanged"])
        return f"POST /{path} HTTP/1.1\r\nHost: localhost\r\n{field}\r\n\r\n".encode()

    def send(self, body: memoryview, path: str = "", beyond: bytes | memoryview = b"") -> None:
        self.writer.writelines([self.head(f"Content-Length: {len(body)}", path), body, beyond])

    async def response(self) -> tuple[int, bytes]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
        return int(head.split(b" ")[1]), await self.reader.readexactly(size)

    async def expect(self, status: int, body: memoryview | None = None) -> bool:
        found = await self.response()
        right = (status, b"" if body is None else b"%d" % zlib.crc32(body))
        if found != right:
            self.findings.failures.append(f"response {found} in place of {right}")
        return found == right

    async def closed(self) -> bool:
        """Wait until the server closes the connection. It may answer before."""
        with suppress(ConnectionError):
            while await self.reader.read(64 * KIB):
                pass
        return False
