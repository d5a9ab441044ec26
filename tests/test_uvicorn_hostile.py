"""Clients and applications that misbehave, and the limits that hold, on ``bytepool.uvicorn``."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from helpers import pattern
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streams_helpers import run_fixture
from uvicorn_helpers import answer, application, config, digest, post, response, serving, wait_until

from bytepool import Pool, asgi
from bytepool.uvicorn import _chunks, _protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


def test_bytes_before_a_disconnect_reach_the_application(run: Run) -> None:
    async def main() -> None:
        got: list[Any] = []

        async def app(_scope: Any, receive: Any, _send: Any) -> None:
            while (message := await receive())["type"] != "http.disconnect":
                got.append(message["body"])
                assert message["more_body"]
            got.append(None)

        async with serving(app) as server:
            data = pattern(2 * MIB + 12_345)
            _, writer = await server.connect()
            writer.write(post(data, length=4 * MIB))
            writer.close()
            await wait_until(lambda: got and got[-1] is None)
            assert b"".join(got[:-1]) == data

    run(main())


def test_a_slow_client_is_served_what_it_has_sent(run: Run) -> None:
    """An application may answer to the first part of a body before the client sends the rest."""

    async def main() -> None:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"200000")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            more = True
            while more:
                message = await receive()
                more = message["more_body"]
                body = {"type": "http.response.body", "body": message["body"], "more_body": more}
                await send(body)

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=200_000))
            await reader.readuntil(b"\r\n\r\n")
            for size in (1, 99_999, 3, 99_997):
                writer.write(pattern(size))
                assert await reader.readexactly(size) == pattern(size)
            writer.close()

    run(main())


def test_an_upload_that_was_answered_early_goes_on_beyond_the_keep_alive_time(run: Run) -> None:
    async def main() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send, b"early", 413)

        async with serving(app, timeout_keep_alive=0.1) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=300_000))
            assert await response(reader) == (413, b"early")
            for _ in range(2):
                writer.write(bytes(150_000))
                await asyncio.sleep(0.15)
            writer.write(post(pattern(10)))
            assert await response(reader) == (413, b"early")
            writer.close()

    run(main())


@pytest.mark.parametrize("size", [150_000, MIB, 3 * MIB])
@pytest.mark.parametrize("seconds", [0, 0.01])
def test_a_client_that_half_closes_after_its_upload_gets_the_answer(
    run: Run, size: int, seconds: float
) -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            body = await asgi.body(scope, receive)
            if seconds:
                await asyncio.sleep(seconds)
            await answer(send, digest(body).encode())

        data = pattern(size)

        def upload(address: tuple[str, int]) -> bytes:
            with socket.create_connection(address, timeout=10) as sock:
                sock.sendall(post(data))
                sock.shutdown(socket.SHUT_WR)
                return b"".join(iter(lambda: sock.recv(4096), b""))

        async with serving(app) as server:
            for _ in range(10):
                answered = await asyncio.to_thread(upload, server.address)
                assert answered.endswith(digest(data).encode())

    run(main())


def test_a_cancelled_read_goes_on_later_and_leaves_the_memory_alone(run: Run) -> None:
    async def main() -> None:
        buffer = bytearray(100_000)
        cancelled = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asgi.Body(scope, receive).readinto(buffer), 0.05)
                buffer[:] = bytes(100_000)
            cancelled.set()
            reply = await asgi.body(scope, receive)
            assert buffer == bytes(100_000), "nobody fills it any more"
            await answer(send, digest(reply).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(250_000)
            writer.write(post(data[:70_000], length=len(data)))
            await cancelled.wait()
            writer.write(data[70_000:])
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_the_transport_is_not_paused_while_it_asks_for_a_buffer(run: Run) -> None:
    """With uvloop that ends the process. Bytes of a cancelled read fill whole chunks just then."""

    class Watched(_protocol.Protocol):
        def get_buffer(self, sizehint: int) -> memoryview:
            buffer = super().get_buffer(sizehint)
            assert not self._http.flow.read_paused
            return buffer

    async def main() -> None:
        data = pattern(6 * MIB)
        part = 3 * MIB + 500_000
        cancelled = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asgi.Body(scope, receive).readinto(bytearray(5 * MIB)), 0.2)
            cancelled.set()
            chunks: list[bytes] = []
            more = True
            while more:
                message = await receive()
                chunks.append(message["body"])
                more = message["more_body"]
                await asyncio.sleep(0.02)  # the transport reads meanwhile
            await answer(send, digest(b"".join(chunks)).encode())

        async with serving(app, Watched) as server:
            reader, writer = await server.connect()
            writer.write(post(data[:part], length=len(data)))
            await cancelled.wait()
            writer.write(data[part:])
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_limit_concurrency_answers_503(run: Run) -> None:
    async def main() -> None:
        async with serving(application(Pool()), limit_concurrency=1) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(100_000), path="/body", length=1 << 30))
            assert await response(reader) == (503, b"Service Unavailable")
            writer.close()

    run(main())


def test_a_graceful_shutdown_waits_for_an_upload() -> None:
    async def main() -> None:
        server = uvicorn.Server(config(application(Pool()), port=0, host="127.0.0.1"))
        task = asyncio.create_task(server._serve())
        await wait_until(lambda: server.started)
        idle, idle_writer = await asyncio.open_connection(
            *server.servers[0].sockets[0].getsockname()
        )
        reader, writer = await asyncio.open_connection(*server.servers[0].sockets[0].getsockname())
        data = pattern(MIB)
        writer.write(post(data[:500_000], path="/pooled", length=MIB))
        await wait_until(lambda: server.server_state.tasks)
        server.should_exit = True
        assert await idle.read() == b"", "an idle connection is closed at once"
        assert not task.done()
        writer.write(data[500_000:])
        assert await response(reader) == (200, digest(data).encode())
        assert await reader.read() == b""
        await task
        idle_writer.close()
        writer.close()

    asyncio.run(main())


def test_uvicorn_takes_it_from_the_command_line() -> None:
    command = [sys.executable, "-m", "uvicorn", "--http", "bytepool.uvicorn:Protocol"]
    done = subprocess.run(
        [*command, "--port", "0", "--lifespan", "off", "no_such_module:app"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert 'Could not import module "no_such_module"' in done.stderr


def test_a_request_with_a_huge_length_costs_nothing(run: Run) -> None:
    """The peer's promise is not believed: a chunk at a time is allocated."""

    async def main() -> None:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            message = await receive()
            await answer(send, b"%d" % len(message["body"]))

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(2 * _chunks.CHUNK), length=1 << 60))
            status, size = await response(reader)
            assert status == 200
            assert int(size) <= _chunks.CHUNK
            writer.close()

    run(main())


def test_starlette_raises_on_a_disconnect(run: Run) -> None:
    async def main() -> None:
        raised = asyncio.Event()

        async def upload(request: Request) -> PlainTextResponse:
            try:
                await asgi.body(request)
            except ClientDisconnect:
                raised.set()
                raise
            return PlainTextResponse("")

        app = Starlette(routes=[Route("/", upload, methods=["POST"])])
        async with serving(app) as server:
            _, writer = await server.connect()
            writer.write(post(pattern(100_000), length=MIB))
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.close()
            await raised.wait()

    run(main())
