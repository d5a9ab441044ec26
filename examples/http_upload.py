"""An HTTP server for uploads. h11 parses the protocol, and the pool holds the body.

The server requests one buffer of the size in Content-Length, up to a limit. So it never grows a
bytearray, and the next upload reuses the buffer.
"""

from __future__ import annotations

import asyncio
import hashlib

import h11

from bytepool import Allocator, Pool, streams

MAX_UPLOAD = 64 << 20
pool = Pool(max_size=MAX_UPLOAD, max_buffers=4)


class Upload:
    """One HTTP request, read from a pooled stream."""

    def __init__(self, reader: streams.StreamReader) -> None:
        self.reader = reader
        self.http = h11.Connection(h11.SERVER)

    async def next_event(self) -> h11.Event | type[h11.PAUSED]:
        """Return the next event of the client."""
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.reader.read(256 << 10))
        return event  # type: ignore[return-value]

    async def receive_body(self, alloc: Allocator) -> int:
        """Write the body into the allocator's bytes, and return its size."""
        filled = 0
        while isinstance(event := await self.next_event(), h11.Data):
            alloc.bytes()[filled : filled + len(event.data)] = event.data
            filled += len(event.data)
        return filled


def answer(http: h11.Connection, status: int, text: str) -> bytes:
    """Return a complete response with one line of text."""
    headers = [("Content-Length", str(len(text))), ("Connection", "close")]
    parts = [
        http.send(h11.Response(status_code=status, headers=headers)),
        http.send(h11.Data(data=text.encode())),
        http.send(h11.EndOfMessage()),
    ]
    return b"".join(part for part in parts if part)


async def serve(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
    """Answer one request with the size and the SHA-256 digest of its body."""
    upload = Upload(reader)
    try:
        request = await upload.next_event()
        if not isinstance(request, h11.Request):
            return
        length = dict(request.headers).get(b"content-length")
        if length is None:
            reply = answer(upload.http, 411, "Content-Length is missing")
        elif int(length) > MAX_UPLOAD:
            reply = answer(upload.http, 413, f"larger than {MAX_UPLOAD} bytes")
        else:
            with pool.allocate(int(length)) as alloc:
                size = await upload.receive_body(alloc)
                digest = hashlib.sha256(alloc.bytes()[:size]).hexdigest()
            reply = answer(upload.http, 200, f"{size} bytes, {digest}")
        writer.write(reply)
        await writer.drain()
    except h11.RemoteProtocolError as error:
        writer.write(answer(upload.http, error.error_status_hint, str(error)))
    finally:
        writer.close()


async def post(address: tuple[str, int], body: bytes, length: int | None = None) -> str:
    """Send an upload, and return the text of the response."""
    reader, writer = await streams.open_connection(*address, pool=pool)
    size = len(body) if length is None else length
    writer.write(b"POST /upload HTTP/1.1\r\nHost: localhost\r\n")
    writer.write(b"Content-Length: %d\r\n\r\n" % size)
    writer.write(body)
    response = await reader.read()
    writer.close()
    return response.partition(b"\r\n\r\n")[2].decode()


async def main() -> None:
    """Send a few uploads, and one that is too large."""
    server = await streams.start_server(serve, "127.0.0.1", 0, pool=pool)
    async with server:
        address = server.sockets[0].getsockname()
        for body in (b"", b"small", b"large" * 1_000_000, b"again" * 1_000_000):
            text = await post(address, body)
            assert text == f"{len(body)} bytes, {hashlib.sha256(body).hexdigest()}", text
            print(text[:40])
        print(await post(address, b"", MAX_UPLOAD + 1))
    print(f"in use: {pool.stats().outstanding}")


asyncio.run(main())
