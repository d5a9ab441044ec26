"""What a broken connection raises, and that it keeps no message."""

from __future__ import annotations

import asyncio
import gc
import socket
import struct

import pytest

from bytepool import Pool, streams


@pytest.mark.parametrize("how", ["readexactly", "readview", "readline", "drain", "wait_closed"])
@pytest.mark.parametrize("caught", [True, False], ids=["caught", "not caught"])
def test_a_connection_that_breaks_leaves_no_message_out(how: str, caught: bool) -> None:
    """Its error holds the handler's frame, by its traceback, and that the message."""
    pool = Pool()
    errors: list[str] = []

    async def handler(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await reader.readview(100_000)
        try:
            match how:
                case "drain":
                    while True:
                        writer.write(bytes(1 << 20))
                        await writer.drain()
                case "wait_closed":
                    await writer.wait_closed()
                case "readline":
                    await reader.readline()
                case _:
                    await getattr(reader, how)(len(message))
        except ConnectionError as error:
            errors.append(type(error).__name__)
            if not caught:
                raise
        finally:
            writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        server = await streams.start_server(handler, "127.0.0.1", 0, pool=pool)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await loop.sock_sendall(client, bytes(100_000))
            await asyncio.sleep(0.1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.1)
        assert errors
        assert pool.stats().outstanding == 0
        server.close()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()
