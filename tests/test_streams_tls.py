"""Streams over TLS: nothing that was decrypted is lost."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import pytest
from helpers import pattern
from streams_helpers import connected, read_frame, run_fixture, send_frame, tls

from bytepool import Pool, streams

run = run_fixture()


def test_start_tls_keeps_receiving_into_targets(run: Any) -> None:
    pool = Pool()

    async def upgrade(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(tls()[0])
        assert await read_frame(reader) == pattern(300_000)
        await send_frame(writer, b"thanks")

    async def main() -> None:
        async with connected(upgrade, pool) as (reader, writer):
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(tls()[1], server_hostname="localhost")
            protocol = writer.transport.get_protocol()
            assert isinstance(protocol, asyncio.BufferedProtocol)
            await send_frame(writer, pattern(300_000))
            assert bytes(await read_frame(reader)) == b"thanks"

    run(main())


@pytest.mark.parametrize("n", [0, 10, 20_000], ids=["anything", "little", "in place"])
def test_bytes_before_the_peer_closes_a_tls_connection_are_read(run: Any, n: int) -> None:
    """Asyncio and uvloop fill one more buffer then: all decrypted bytes must go into it."""
    large = 256 << 10  # after such a read, little is read ahead
    listener = socket.create_server(("127.0.0.1", 0))

    def peer() -> None:
        with tls()[0].wrap_socket(listener.accept()[0], server_side=True) as sock:
            sock.sendall(bytes(large))
            assert sock.recv(1) == b"x"
            sock.sendall(pattern(60_000))

    async def main() -> None:
        host, port = listener.getsockname()
        thread = threading.Thread(target=peer)
        thread.start()
        reader, writer = await streams.open_connection(
            host, port, pool=Pool(), ssl=tls()[1], server_hostname="localhost"
        )
        await reader.readview(large)
        reader._in_place = 16 << 10
        writer.write(b"x")
        await writer.drain()
        first = asyncio.create_task(reader.readview(n))
        await asyncio.sleep(0)
        time.sleep(0.1)  # the loop is busy with something else
        assert bytes(await first) + await reader.read() == pattern(60_000)
        writer.close()
        thread.join()

    with listener:
        run(main())


@pytest.mark.parametrize("read", ["read", "readview"])
def test_start_tls_of_the_loop_loses_nothing(run: Any, read: str) -> None:
    """``loop.start_tls`` by hand, with the protocol that the transport has."""
    listener = socket.create_server(("127.0.0.1", 0))

    def peer() -> None:
        plain = listener.accept()[0]
        plain.sendall(b"go\n")
        with tls()[0].wrap_socket(plain, server_side=True) as sock:
            sock.sendall(pattern(60_000))

    async def main() -> None:
        thread = threading.Thread(target=peer)
        thread.start()
        reader, writer = await streams.open_connection(*listener.getsockname(), pool=Pool())
        assert await reader.readline() == b"go\n"
        transport: Any = writer.transport
        loop = asyncio.get_running_loop()
        upgraded = await loop.start_tls(
            transport, transport.get_protocol(), tls()[1], server_hostname="localhost"
        )
        assert upgraded is not None
        reader._ahead = 4096  # as after a large read
        little = asyncio.create_task(reader.readexactly(10))
        await asyncio.sleep(0)
        time.sleep(0.2)  # the loop is busy, and the peer closes
        content = bytes(await little)
        content += bytes(await (reader.read() if read == "read" else reader.readview(59_990)))
        assert content == pattern(60_000)
        upgraded.close()
        writer.close()
        thread.join()

    with listener:
        run(main())


def test_start_tls_gives_the_reader_the_new_transport(run: Any) -> None:
    """Flow control then pauses the transport that decrypts."""
    before: list[object] = []

    async def serve(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        before.append(writer.transport)
        await writer.start_tls(tls()[0])
        assert reader._transport is writer.transport is not before[0]

    async def main() -> None:
        async with connected(serve, Pool()) as (reader, writer):
            before.append(writer.transport)
            await writer.start_tls(tls()[1], server_hostname="localhost")
            assert reader._transport is writer.transport is not before[-1]

    run(main())
