"""A server and a client that exchange length-prefixed messages through pooled memory."""

from __future__ import annotations

import asyncio
import struct

from bytepool import Pool, streams

HEADER = struct.Struct("!Q")
MAX_MESSAGE = 64 << 20  # do not trust a length that a peer sends


async def read_message(reader: streams.StreamReader) -> memoryview:
    """Receive one message straight into a pooled buffer."""
    (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
    return await reader.readview(size, max_size=MAX_MESSAGE)


async def write_message(writer: streams.StreamWriter, message: memoryview | bytes) -> None:
    """Send one message. Many event loops send a pooled view without a copy."""
    writer.write(HEADER.pack(len(message)))
    writer.write(message)
    await writer.drain()


async def echo(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
    """Send each message back until the client closes the connection."""
    try:
        while True:
            await write_message(writer, await read_message(reader))
    except asyncio.IncompleteReadError as error:
        if error.partial:
            print(f"a client disconnected inside a message, after {len(error.partial)} bytes")
    except ValueError as error:
        print(f"refused: {error}")
    finally:
        writer.close()


async def main() -> None:
    """Send messages of several sizes, and one that is too large."""
    pool = Pool(max_size=1 << 20)
    server = await streams.start_server(echo, "127.0.0.1", 0, pool=pool)
    async with server:
        address = server.sockets[0].getsockname()
        reader, writer = await streams.open_connection(*address, pool=pool)
        for size in (5, 1000, 1_000_000, 3_000_000):
            message = bytes([size % 251]) * size
            await write_message(writer, message)
            assert await read_message(reader) == message
        writer.write(HEADER.pack(1 << 50))
        assert await reader.read() == b"", "the server closes the connection"
        writer.close()
    print(f"in use: {pool.stats().outstanding}")


asyncio.run(main())
