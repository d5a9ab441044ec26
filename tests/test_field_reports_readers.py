"""Situations from public bug reports about stream readers, tried on both event loops.

``docs/reliability.md`` names the reports.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern
from streams_helpers import connected, run_fixture, tls
from test_field_reports import connection

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Callable

run = run_fixture()
LARGE = 1_000_000


@pytest.mark.parametrize("extra", [b"", pattern(200_000)], ids=["hello", "hello and more"])
def test_hello_behind_the_line_that_announces_tls_is_not_lost(
    run: Callable[..., Any], extra: bytes
) -> None:
    """As a proxy sends it: a line with the client's address, and TLS in the same segment."""

    def client(address: Any) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = tls()[1].wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(address) as sock:
            data = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"
            while True:
                try:
                    session.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    sock.sendall(data + outgoing.read())
                    data = b""
                    incoming.write(sock.recv(1 << 16))
            session.write(b"question" + extra)
            sock.sendall(outgoing.read())
            answer = b""
            while len(answer) < 6:
                try:
                    answer += session.read(6)
                except ssl.SSLWantReadError:
                    incoming.write(sock.recv(1 << 16))
            assert answer == b"answer"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"PROXY ")
        await asyncio.sleep(0.05)  # the hello has come
        await writer.start_tls(tls()[0])
        assert await reader.readexactly(8 + len(extra)) == b"question" + extra
        writer.write(b"answer")
        await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):  # the client may have closed first
            await writer.wait_closed()
        is_over.set()

    is_over = asyncio.Event()

    async def main() -> None:
        async with await streams.start_server(serve, "127.0.0.1", 0) as server:
            address = server.sockets[0].getsockname()
            await asyncio.wait_for(asyncio.to_thread(client, address), 10)
            await asyncio.wait_for(is_over.wait(), 10)

    run(main())


def test_read_after_a_timeout_goes_on_at_the_same_byte(run: Callable[..., Any]) -> None:
    """A read that timed out leaves what came, and the next one may begin at once."""

    async def main() -> None:
        reader, writer, peer = await connection()
        send = asyncio.get_running_loop().sock_sendall
        content = pattern(LARGE)
        sending = asyncio.create_task(send(peer, content[:-1]))
        for name in ("readexactly", "readview", "readinto", "readexactly", "readview", "readview"):
            argument = bytearray(LARGE) if name == "readinto" else LARGE
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(getattr(reader, name)(argument), 0.02)
        await sending
        last = asyncio.create_task(send(peer, content[-1:]))
        assert await reader.readexactly(LARGE) == content
        await last
        writer.close()
        peer.close()

    run(main())


@pytest.mark.parametrize("name", ["read", "readexactly", "readview"])
def test_read_that_waits_ends_when_its_own_connection_is_closed(
    run: Callable[..., Any], name: str
) -> None:
    async def main() -> None:
        reader, writer, peer = await connection()
        task = asyncio.create_task(getattr(reader, name)(LARGE))
        await asyncio.sleep(0.01)
        writer.close()
        await writer.wait_closed()
        if name == "read":
            assert await task == b""
        else:
            with pytest.raises(asyncio.IncompleteReadError):
                await task
        peer.close()

    run(main())


def test_closed_connection_that_was_held_back_is_read_to_its_end(run: Callable[..., Any]) -> None:
    """Its transport is closed, and must not be paused or resumed any more."""

    async def main() -> None:
        reader, writer, peer = await connection()
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(peer, bytes(LARGE)))
        await asyncio.sleep(0.05)
        assert reader._paused
        writer.close()
        await writer.wait_closed()
        rest = len(await reader.readexactly(10)) + len(await reader.read())
        assert rest > 2 * 65536
        assert reader.at_eof()
        sending.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await sending
        peer.close()

    run(main())


def test_peer_that_has_sent_all_still_gets_an_answer(run: Callable[..., Any]) -> None:
    """The end of the stream in one direction does not end the other one."""

    async def main() -> None:
        reader, writer, peer = await connection()
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(reader.read())
        await loop.sock_sendall(peer, pattern(LARGE))
        peer.shutdown(socket.SHUT_WR)
        assert await task == pattern(LARGE)
        writer.write(b"answer")
        await writer.drain()
        assert await loop.sock_recv(peer, 10) == b"answer"
        writer.close()
        peer.close()

    run(main())


def test_abort_by_another_task_ends_a_read_in_place(run: Callable[..., Any]) -> None:
    async def main() -> None:
        reader, writer, peer = await connection()
        task = asyncio.create_task(reader.readexactly(LARGE))
        await asyncio.sleep(0)
        await asyncio.get_running_loop().sock_sendall(peer, bytes(100_000))
        writer.transport.abort()
        with pytest.raises((asyncio.IncompleteReadError, OSError)):
            await task
        peer.close()

    run(main())


def test_bytes_that_a_library_puts_back_are_read_first(run: Callable[..., Any]) -> None:
    """As proxies do it that look at the first bytes: ``reader._buffer[:0] = seen``."""

    async def main() -> None:
        reader, writer, peer = await connection()
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(peer, pattern(1000))
        seen = await reader.read(10)
        reader._buffer[:0] = seen
        rest = asyncio.create_task(loop.sock_sendall(peer, pattern(LARGE)))
        assert await reader.readexactly(1000 + LARGE) == pattern(1000) + pattern(LARGE)
        await rest
        writer.close()
        peer.close()

    run(main())


def test_records_that_come_together_are_all_read(run: Callable[..., Any]) -> None:
    """Over TLS, several records are decrypted into one buffer, one behind the other."""

    async def serve(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in (b"A" * 30, b"B" * 30, pattern(200_000), b"C"):
            writer.write(piece)
            await writer.drain()
        assert await reader.read() == b""

    async def main() -> None:
        async with connected(serve, Pool(), with_tls=True) as (reader, writer):
            await asyncio.sleep(0.05)
            assert await reader.readexactly(60) == b"A" * 30 + b"B" * 30
            assert bytes(await reader.readview(200_000)) == pattern(200_000)
            assert await reader.readexactly(1) == b"C"
            writer.close()

    run(main())


def test_loop_that_ends_with_reads_in_place_leaves_nothing(run: Callable[..., Any]) -> None:
    pool = Pool()

    async def main() -> None:
        reader, writer, peer = await connection()
        reader = streams.StreamReader(pool=pool)
        await asyncio.get_running_loop().sock_sendall(peer, bytes(100))
        tasks = [asyncio.create_task(reader.readview(LARGE))]
        await asyncio.sleep(0.01)
        assert not tasks[0].done()
        writer.close()
        peer.close()

    run(main())
    assert pool.stats().outstanding == 0


def test_bytes_that_come_while_the_read_times_out_are_the_next_reads(
    run: Callable[..., Any],
) -> None:
    """The future is done and the task is cancelled in the same turn of the loop."""

    async def main() -> None:
        reader, writer, peer = await connection()
        for size in (100, LARGE):
            for _ in range(20):
                task = asyncio.create_task(reader.readexactly(size))
                await asyncio.sleep(0)
                thread = threading.Thread(target=send_all, args=(peer, pattern(size)))
                thread.start()
                await asyncio.sleep(0.0005)
                task.cancel()
                try:
                    content = await task
                except asyncio.CancelledError:
                    content = await reader.readexactly(size)
                assert content == pattern(size)
                await asyncio.to_thread(thread.join)
        writer.close()
        peer.close()

    run(main())


def send_all(peer: socket.socket, content: bytes) -> None:
    copy = peer.dup()
    copy.setblocking(True)
    with copy:
        copy.sendall(content)
    peer.setblocking(False)
