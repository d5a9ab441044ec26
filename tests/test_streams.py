"""``bytepool.streams`` over sockets: as asyncio's streams, and CPython's own tests of those."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern, reuse_hard
from streams_helpers import connected, read_frame, run_fixture, send_frame

from bytepool import Pool, streams

if TYPE_CHECKING:
    from pathlib import Path

run = run_fixture()


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_frames_of_all_sizes(run: Any, tmp_path: Path, unix: bool, with_tls: bool) -> None:
    pool = Pool(1024, 1 << 22, 8)
    sizes = [0, 1, 7, 4096, 65_535, 65_536, 200_000, 5_000_000, 3, 70_000, 0, 9]

    async def echo(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        for n in sizes:
            frame = await read_frame(reader)
            assert frame == pattern(n)
            await send_frame(writer, frame)
            del frame
            reuse_hard(pool, n)
        assert await reader.read() == b""

    async def main() -> None:
        path = tmp_path / "socket" if unix else None
        async with connected(echo, pool, unix=path, with_tls=with_tls) as (reader, writer):
            for n in sizes:
                await send_frame(writer, pattern(n))
                target = bytearray(n)
                assert await reader.readexactly(8) == struct.pack("!Q", n)
                assert await reader.readinto(target) == n
                assert target == pattern(n)
            assert type(reader) is streams.StreamReader

    run(main())
    assert pool.stats().outstanding == 0


def test_written_views_may_be_released_at_once(run: Any) -> None:
    pool = Pool(4096, 1 << 20, 4)
    messages = [pattern(1_000_000 + i) for i in range(8)]

    async def send(_: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        for message in messages:
            with pool.allocate(len(message)) as alloc:
                alloc.bytes()[:] = message
                writer.write(alloc.bytes())
            reuse_hard(pool, len(message))
        await writer.drain()

    async def main() -> None:
        async with connected(send, pool) as (reader, _):
            await asyncio.sleep(0.05)
            for message in messages:
                assert await reader.readexactly(len(message)) == message

    run(main())
    assert pool.stats().outstanding == 0


def test_idle_connections_hold_no_buffer(run: Any) -> None:
    pool = Pool()

    async def serve(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(5) == b"hello"
        assert not reader._has_memory
        assert await reader.read() == b""

    async def main() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(20):
                _, writer = await stack.enter_async_context(connected(serve, pool))
                writer.write(b"hello")
            await asyncio.sleep(0.05)
            assert pool.stats().peak_outstanding == 0

    run(main())


@pytest.mark.parametrize("module", ["test_streams", "test_sslproto", "test_buffered_proto"])
def test_cpythons_own_tests_pass_with_our_streams_in_place_of_asyncios(module: str) -> None:
    pytest.importorskip("test.test_asyncio", reason="this Python came without its own tests")
    code = f"""
        import asyncio, unittest
        from bytepool import streams

        for name in streams.__all__:
            if hasattr(asyncio, name):
                setattr(asyncio, name, getattr(streams, name))
                setattr(asyncio.streams, name, getattr(streams, name))
        import test.test_asyncio.{module} as tests
        unittest.main(module=tests, argv=["tests"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "OK" in done.stderr


class TestHostileClients:
    """Whatever a client does, the server gets an error it can handle, and nothing stays out."""

    @pytest.mark.parametrize("piece", [1, 3])
    def test_a_few_bytes_at_a_time(self, run: Any, piece: int) -> None:
        pool = Pool(64, 4096, 4)
        message = struct.pack("!Q", 300) + pattern(300)

        async def serve(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
            assert await read_frame(reader) == pattern(300)

        async def main() -> None:
            async with connected(serve, pool) as (_, writer):
                for i in range(0, len(message), piece):
                    writer.write(message[i : i + piece])
                    await asyncio.sleep(0)

        run(main())
        assert pool.stats().outstanding == 0

    @pytest.mark.parametrize("ending", ["close", "half-close", "reset"])
    @pytest.mark.parametrize("sent", [0, 3, 8, 100])
    def test_gone_in_the_middle(self, run: Any, sent: int, ending: str) -> None:
        pool = Pool(64, 4096, 4)
        message = (struct.pack("!Q", 1000) + pattern(1000))[:sent]
        outcomes: list[object] = []

        async def serve(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await read_frame(reader)
            except asyncio.IncompleteReadError as error:
                outcomes.append(error.partial)
                writer.write(b"bye")
            except ConnectionResetError:
                outcomes.append("reset")

        async def main() -> None:
            async with connected(serve, pool) as (reader, writer):
                writer.write(message)
                await writer.drain()
                await asyncio.sleep(0.02)
                if ending == "half-close":
                    writer.write_eof()
                    assert await reader.read() == b"bye"
                elif ending == "close":
                    writer.close()
                else:
                    sock = writer.get_extra_info("socket")
                    linger = struct.pack("ii", 1, 0)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    writer.transport.abort()

        run(main())
        missing = message if sent < 8 else message[8:]
        assert outcomes == ["reset" if ending == "reset" else missing]
        assert pool.stats().outstanding == 0

    def test_more_than_is_read_is_held_back(self, run: Any) -> None:
        """Flow control: what nobody reads stays with the sender, and the server's memory small."""
        pool = Pool()
        held = 0

        async def serve(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
            nonlocal held
            await asyncio.sleep(0.3)
            held = len(reader._buffer)
            assert len(await reader.read()) == 20_000_000

        async def main() -> None:
            async with connected(serve, pool) as (_, writer):
                writer.write(bytes(20_000_000))
                writer.write_eof()
                await writer.drain()

        run(main())
        assert 0 < held <= 2 * 65_536 + 262_144
