"""``bytepool.streams``: asyncio's streams as they are, and reads straight into memory."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import ssl
import struct
import subprocess
import sys
import textwrap
import threading
import time
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop
from helpers import pattern, reuse_hard
from hypothesis import given
from hypothesis import strategies as st

import bytepool
from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

    Handler = Callable[[streams.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Run a coroutine on one of the event loops; nothing may take longer than half a minute."""

    def run(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            return runner.run(asyncio.wait_for(main, 30))

    return run


@cache
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@contextlib.asynccontextmanager
async def connected(
    handler: Handler, pool: Pool, *, unix: Path | None = None, with_tls: bool = False
) -> AsyncIterator[tuple[streams.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of our own that handles it with ``handler``."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
            done.set_result(None)
        except BaseException as error:
            done.set_exception(error)
        finally:
            writer.close()

    server_tls, client_tls = tls() if with_tls else (None, None)
    name: dict[str, Any] = {"server_hostname": "localhost"} if with_tls else {}
    if unix:
        server = await streams.start_unix_server(handle, unix, pool=pool, ssl=server_tls)
        pair = await streams.open_unix_connection(unix, pool=pool, ssl=client_tls, **name)
    else:
        server = await streams.start_server(handle, "127.0.0.1", 0, pool=pool, ssl=server_tls)
        host, port = server.sockets[0].getsockname()
        pair = await streams.open_connection(host, port, pool=pool, ssl=client_tls, **name)
    async with server:
        yield pair
        pair[1].close()
        await done


async def send_frame(writer: asyncio.StreamWriter, payload: Any) -> None:
    writer.write(struct.pack("!Q", len(payload)))
    writer.write(payload)
    await writer.drain()


async def read_frame(reader: streams.StreamReader) -> memoryview:
    return await reader.readview(*struct.unpack("!Q", await reader.readexactly(8)))


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


def test_a_waiting_target_is_received_into_directly(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 30 messages of 1 MiB, only what was read ahead with the headers is copied once more."""
    copied = 0
    feed = asyncio.StreamReader.feed_data

    def count(self: asyncio.StreamReader, data: Any) -> None:
        nonlocal copied
        copied += len(data)
        feed(self, data)

    monkeypatch.setattr(asyncio.StreamReader, "feed_data", count)
    pool = Pool(1024, 1 << 20, 4)

    async def consume(reader: streams.StreamReader, _: asyncio.StreamWriter) -> None:
        for _i in range(30):
            assert len(await read_frame(reader)) == 1 << 20

    async def main() -> None:
        async with connected(consume, pool) as (_, writer):
            for _ in range(30):
                await send_frame(writer, bytes(1 << 20))

    run(main())
    assert copied < 30 * 20_000
    assert pool.stats().peak_outstanding == 1


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


class TestReader:
    """Without a socket: the reader is fed by hand, as the transport would."""

    @pytest.fixture
    def pool(self) -> Pool:
        return Pool(64, 4096, 4)

    def drive(self, main: Callable[[streams.StreamReader], Awaitable[Any]], pool: Pool) -> Any:
        async def run() -> Any:
            return await asyncio.wait_for(main(streams.StreamReader(pool=pool)), 10)

        return asyncio.run(run())

    def test_end_of_stream_carries_what_came(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            for read in (lambda: reader.readview(10), lambda: reader.readinto(bytearray(10))):
                reader._eof = False
                reader.feed_data(b"ab")
                task = asyncio.ensure_future(read())
                await asyncio.sleep(0)
                reader.feed_data(b"cde")
                await asyncio.sleep(0)
                reader.feed_eof()
                with pytest.raises(asyncio.IncompleteReadError) as raised:
                    await task
                assert (raised.value.partial, raised.value.expected) == (b"abcde", 10)
                assert reader.at_eof()
            with pytest.raises(asyncio.IncompleteReadError) as raised:
                await reader.readview(1)
            assert (raised.value.partial, raised.value.expected) == (b"", 1)
            assert len(await reader.readview(0)) == 0

        self.drive(main, pool)

    @pytest.mark.parametrize("complete", [False, True])
    def test_cancelled_it_loses_nothing(self, pool: Pool, complete: bool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            reader.feed_data(b"01")
            task = asyncio.ensure_future(reader.readview(8))
            await asyncio.sleep(0)
            reader.feed_data(b"234567" if complete else b"2345")
            reader.feed_data(b"89" if complete else b"")
            task.cancel()  # even when everything has come and the task has not run yet
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            if not complete:
                reader.feed_data(b"6789")
            assert bytes(await reader.readview(10)) == b"0123456789"

        self.drive(main, pool)
        assert pool.stats().outstanding == 0

    def test_a_timeout_in_the_middle(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            reader.feed_data(b"abc")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readview(4000), 0.01)
            assert pool.stats().outstanding == 0
            reader.feed_data(b"def")
            assert await reader.readexactly(6) == b"abcdef"

        self.drive(main, pool)

    def test_a_second_reader_is_refused_and_the_first_goes_on(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readview(4))
            await asyncio.sleep(0)
            for read in (reader.readview(2), reader.readinto(bytearray(2)), reader.readexactly(2)):
                with pytest.raises(RuntimeError, match="already waiting for incoming data"):
                    await read
            reader.feed_data(b"abcdef")
            assert bytes(await task) == b"abcd"
            assert await reader.readexactly(2) == b"ef"

        self.drive(main, pool)

    def test_a_broken_connection_raises(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            task = asyncio.ensure_future(reader.readview(4))
            await asyncio.sleep(0)
            reader.set_exception(ConnectionResetError("gone"))
            for read in (task, reader.readview(1), reader.readinto(bytearray(1))):
                with pytest.raises(ConnectionResetError, match="gone"):
                    await read

        self.drive(main, pool)
        assert pool.stats().outstanding == 0

    def test_buffers_that_can_be_filled_and_others(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            from array import array

            numbers = array("i", [0, 0])
            reader.feed_data(struct.pack("=ii", 5, -6))
            assert await reader.readinto(numbers) == 8
            assert list(numbers) == [5, -6]
            assert await reader.readinto(bytearray()) == 0
            for bad in (b"12", memoryview(bytearray(4))[::2], "12"):
                with pytest.raises(TypeError):
                    await reader.readinto(bad)  # type: ignore[arg-type]

        self.drive(main, pool)

    def test_a_length_that_is_not_to_be_trusted(self, pool: Pool) -> None:
        async def main(reader: streams.StreamReader) -> None:
            before = pool.stats()
            with pytest.raises(ValueError, match=r"1073741824 bytes.*max_size \(1000 bytes\)"):
                await reader.readview(1 << 30, max_size=1000)
            with pytest.raises(ValueError, match="not -1"):
                await reader.readview(-1)
            with pytest.raises(TypeError):
                await reader.readview(1.5)  # type: ignore[arg-type]
            assert pool.stats() == before
            reader.feed_data(bytes(1000))
            assert await reader.readview(1000, max_size=1000) == bytes(1000)

        self.drive(main, pool)

    @pytest.mark.thread_unsafe(reason="it measures the process")
    def test_a_promise_of_much_costs_no_memory(self) -> None:
        def resident() -> int:
            with open("/proc/self/statm") as statm:  # noqa: PTH123
                return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        async def main(reader: streams.StreamReader) -> None:
            before = resident()
            task = asyncio.ensure_future(reader.readview(1 << 30))
            await asyncio.sleep(0)
            reader.feed_data(b"ten bytes!")
            await asyncio.sleep(0)
            assert resident() - before < 8 << 20
            task.cancel()

        self.drive(main, Pool())


def feed(reader: streams.StreamReader, data: bytes) -> None:
    """What a transport does with a buffered protocol."""
    while data:
        buffer = reader._get_buffer()
        chunk = data[: len(buffer)]
        buffer[: len(chunk)] = chunk
        reader._buffer_updated(len(chunk))
        data = data[len(chunk) :]


READS = st.one_of(
    st.tuples(st.just("readexactly"), st.integers(0, 200)),
    st.tuples(st.just("readview"), st.integers(0, 200)),
    st.tuples(st.just("readinto"), st.integers(0, 200)),
    st.tuples(st.just("read"), st.integers(0, 50)),
    st.tuples(st.just("readline"), st.none()),
    st.tuples(st.just("readuntil"), st.sampled_from([b"ab", b"b", b"aab"])),
)


@given(
    data=st.lists(st.sampled_from(b"ab\n"), max_size=600).map(bytes),
    cuts=st.lists(st.integers(1, 150), max_size=30),
    reads=st.lists(READS, max_size=30),
    ahead=st.sampled_from([1, 3, 64]),
)
def test_any_chunking_and_any_reads_give_what_asyncio_gives(
    data: bytes, cuts: list[int], reads: list[tuple[str, Any]], ahead: int
) -> None:
    pool = Pool(64, 4096, 2)

    async def transcript(reader: asyncio.StreamReader, put: Any) -> list[object]:
        async def deliver() -> None:
            rest = data
            for cut in cuts:
                put(reader, rest[:cut])
                rest = rest[cut:]
                await asyncio.sleep(0)
            put(reader, rest)
            reader.feed_eof()

        delivery = asyncio.ensure_future(deliver())
        results: list[object] = []
        for name, argument in reads:
            try:
                results.append(await read(reader, name, argument))
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
                results.append((type(error), str(error), getattr(error, "partial", None)))
        await delivery
        results.append(await reader.read())
        return results

    async def read(reader: asyncio.StreamReader, name: str, argument: Any) -> bytes:
        if name == "readline":
            return await reader.readline()
        if isinstance(reader, streams.StreamReader) and name == "readview":
            return bytes(await reader.readview(argument))
        if isinstance(reader, streams.StreamReader) and name == "readinto":
            target = bytearray(argument)
            await reader.readinto(target)
            return bytes(target)
        if name.startswith("read") and name not in ("read", "readuntil"):
            name = "readexactly"
        return bytes(await getattr(reader, name)(argument))

    async def main() -> None:
        ours, theirs = streams.StreamReader(100, pool=pool), asyncio.StreamReader(100)
        ours._ahead = ahead
        expected = await transcript(theirs, asyncio.StreamReader.feed_data)
        assert await transcript(ours, feed) == expected

    asyncio.run(main())
    assert pool.stats().outstanding == 0


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


def test_readview_waits_for_the_pools_budget(run: Any) -> None:
    async def main() -> None:
        pool = Pool(4096, 1 << 20, max_bytes=1 << 20)
        held = pool.allocate(1 << 20)
        seen = asyncio.Event()

        async def handler(reader: streams.StreamReader, _writer: asyncio.StreamWriter) -> None:
            seen.set()
            assert bytes(await reader.readview(500_000)) == pattern(500_000)
            assert bytes(await reader.readview(1 << 20)) == pattern(1 << 20)
            with pytest.raises(bytepool.PoolExhaustedError, match="whole budget"):
                await reader.readview(1 << 21)

        async with connected(handler, pool) as (_, writer):
            writer.write(pattern(500_000) + pattern(1 << 20))
            await seen.wait()
            await asyncio.sleep(0.05)
            assert pool.stats().outstanding == 1
            held.release()
        assert pool.stats().outstanding == 0

    run(main())


@pytest.mark.parametrize("broken", [False, True])
def test_readview_of_a_dead_stream_does_not_wait_for_a_budget(run: Any, broken: bool) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        reader.feed_data(b"part")
        if broken:
            reader.set_exception(ConnectionResetError())
            with pytest.raises(ConnectionResetError):
                await reader.readview(100)
            return
        reader.feed_eof()
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await reader.readview(100)
        assert error.value.partial == b"part"
        held.release()
        assert await reader.read() == b""

    run(main())


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


@pytest.mark.parametrize("method", ["readexactly", "readview", "readuntil", "read"])
def test_a_connection_that_breaks_before_the_reader_has_run_ends_the_read(method: str) -> None:
    """Asyncio's own readexactly() waits for ever then."""

    async def main() -> None:
        reader = streams.StreamReader(pool=Pool())
        read = getattr(reader, method)(*([b"end"] if method == "readuntil" else [10]))
        task = asyncio.ensure_future(read)
        await asyncio.sleep(0)
        reader.feed_data(b"only")
        reader.set_exception(ConnectionResetError("broken"))
        if method == "read":
            assert await task == b"only"
        else:
            with pytest.raises(ConnectionResetError, match="broken"):
                await asyncio.wait_for(task, 5)

    asyncio.run(main())


@pytest.mark.parametrize("waits", ["for anything", "for little"])
def test_what_came_over_tls_before_the_peer_closed_is_not_lost(run: Any, waits: str) -> None:
    """Asyncio and uvloop fill one more buffer then: all that is left must go into it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def peer() -> None:
        with tls()[0].wrap_socket(listener.accept()[0], server_side=True) as sock:
            sock.sendall(bytes(65536))  # after a large read, little is read ahead
            assert sock.recv(1) == b"x"
            sock.sendall(pattern(60_000))

    async def main() -> None:
        host, port = listener.getsockname()
        thread = threading.Thread(target=peer)
        thread.start()
        reader, writer = await streams.open_connection(
            host, port, pool=Pool(), ssl=tls()[1], server_hostname="localhost"
        )
        await reader.readview(65536)
        writer.write(b"x")
        await writer.drain()
        little = asyncio.create_task(reader.readview(10 if waits == "for little" else 0))
        await asyncio.sleep(0)
        time.sleep(0.1)  # the loop is busy with something else
        assert bytes(await little) + await reader.read() == pattern(60_000)
        writer.close()
        thread.join()

    with listener:
        run(main())


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


@pytest.mark.parametrize("broken", [False, True])
def test_who_waits_for_the_budget_is_told_that_the_stream_is_over(run: Any, broken: bool) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        task = asyncio.create_task(reader.readview(100))
        await asyncio.sleep(0.01)
        reader.feed_data(b"part")
        if broken:
            reader.set_exception(ConnectionResetError())
        else:
            reader.feed_eof()
        wanted = ConnectionResetError if broken else asyncio.IncompleteReadError
        with pytest.raises(wanted):
            await asyncio.wait_for(task, 5)
        held.release()
        assert pool.allocate(4096).size == 4096, "nobody else waits"

    run(main())


def test_what_is_all_there_is_waited_for_though_the_stream_is_over(run: Any) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096)
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        task = asyncio.create_task(reader.readview(4))
        await asyncio.sleep(0.01)
        reader.feed_data(b"part")
        reader.feed_eof()
        await asyncio.sleep(0.01)
        held.release()
        assert bytes(await asyncio.wait_for(task, 5)) == b"part"

    run(main())


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_reader_that_comes_before_another_one_has_left_is_woken(run: Any, size: int) -> None:
    """Of small reads the second may get what has come, as with asyncio; nothing comes twice."""

    async def main() -> None:
        reader = streams.StreamReader()
        targets = [bytearray(size), bytearray(size)]
        first = asyncio.create_task(reader.readinto(targets[0]))
        await asyncio.sleep(0)
        reader.feed_data(b"0" * size)  # it is woken, and has not run yet
        asyncio.get_running_loop().call_later(0.01, reader.feed_data, b"a" * size)
        async with asyncio.timeout(5):
            assert await reader.readinto(targets[1]) == size
        assert await first == size
        assert sorted(targets) == [b"0" * size, b"a" * size]

    run(main())


def test_a_view_that_was_waited_for_is_no_handle_that_was_dropped(run: Any) -> None:
    async def main() -> None:
        pool = Pool(4096, 4096, max_bytes=4096, track="all")
        held = pool.allocate(4096)
        reader = streams.StreamReader(pool=pool)
        reader.feed_data(bytes(4096))
        task = asyncio.create_task(reader.readview(4096))
        await asyncio.sleep(0.01)
        held.release()
        view = await task
        del view, task
        await asyncio.sleep(0)  # the loop lets go of it; a ResourceWarning would be an error here
        assert len(pool.tracked()) == 0

    run(main())
    gc.collect()


def test_an_error_of_readinto_does_not_keep_the_buffer() -> None:
    async def main() -> None:
        reader = streams.StreamReader()
        reader.feed_data(b"abc")
        reader.feed_eof()
        buffer = bytearray(10)
        with pytest.raises(asyncio.IncompleteReadError) as error:
            await reader.readinto(buffer)
        buffer.extend(b"which needs a buffer that nobody has")
        assert error.value.partial == b"abc"

    asyncio.run(main())
