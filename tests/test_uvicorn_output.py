"""The head of a response leaves with its body, and waits for nothing else."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest
from streams_helpers import run_fixture
from uvicorn.server import ServerState
from uvicorn_helpers import DrivenTransport, answer, config, response, serving

from bytepool.uvicorn import Protocol, _output

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

run = run_fixture()
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def writes(app: Any, request: bytes) -> list[bytes]:
    """Return what the server writes at a time. The application never waits."""
    loaded = config(app)
    loaded.load()
    loop = asyncio.get_running_loop()
    protocol: Any = Protocol(loaded, ServerState(), {}, loop)
    transport = DrivenTransport(protocol)
    assert not transport.deliver(request)
    for _ in range(10):
        await asyncio.sleep(0)
    transport.close()
    await asyncio.sleep(0)
    return transport.writes


@pytest.mark.parametrize("body", [b"", b"short", b"x" * _output._COPIED])
def test_head_and_short_body_are_one_write(body: bytes) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, body)

    for request, count in ((GET, 1), (GET * 3, 3)):
        found = asyncio.run(writes(app, request))
        assert [one.partition(b"\r\n\r\n")[2] for one in found] == [body] * count


@pytest.mark.parametrize("body", [b"x" * (_output._COPIED + 1), memoryview(b"view")])
def test_other_body_is_not_copied(body: Any) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, body)

    head, rest = asyncio.run(writes(app, GET))
    assert head.endswith(b"\r\n\r\n")
    assert rest == body


def test_parts_of_a_body_are_written_when_they_are_sent() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"30")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for more in (True, True, False):
            body = b"HTTP/1.1 1"  # looks like a head
            await send({"type": "http.response.body", "body": body, "more_body": more})

    first, rest = asyncio.run(writes(app, GET))
    assert first.endswith(b"HTTP/1.1 1")
    assert rest == b"HTTP/1.1 1" * 2


def test_heads_without_a_body_stay_in_order() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await answer(send, b"x")

    found = b"".join(asyncio.run(writes(app, HEAD + GET + HEAD)))
    assert found.count(b"HTTP/1.1 200 OK\r\n") == 3
    assert found.count(b"\r\n\r\nxHTTP/1.1") == 1
    assert found.endswith(b"\r\n\r\n")


def test_head_does_not_wait_for_a_body_that_comes_later(run: Run) -> None:
    async def main() -> None:
        seen = asyncio.Event()

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            headers = [(b"content-length", b"4")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await seen.wait()
            await send({"type": "http.response.body", "body": b"late"})

        async with serving(app) as server, asyncio.timeout(10):
            reader, writer = await server.connect()
            writer.write(GET)
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            seen.set()
            assert await reader.readexactly(4) == b"late"
            writer.close()

    run(main())


def test_head_is_sent_if_the_application_fails_after_it(run: Run) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        raise RuntimeError("after the head")

    async def main() -> None:
        async with serving(app) as server, asyncio.timeout(10):
            reader, writer = await server.connect()
            writer.write(GET)
            assert (await reader.read()).startswith(b"HTTP/1.1 202")
            writer.close()

    run(main())


def test_nothing_is_written_to_a_lost_connection() -> None:
    async def main() -> None:
        transport = DrivenTransport(asyncio.Protocol())
        with mock.patch.object(transport, "write") as write:
            output = _output.Output(transport, asyncio.get_running_loop())
            output.write(b"HTTP/1.1 200 OK\r\n\r\n")
            transport.close()
            await asyncio.sleep(0)
            write.assert_not_called()

    asyncio.run(main())


def test_client_that_ends_its_side_gets_the_head(run: Run) -> None:
    async def slow(scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if scope["method"] == "GET":
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"late"})

    async def main() -> None:
        async with serving(slow) as server, asyncio.timeout(20):
            for request in (HEAD, GET) * 20:
                reader, writer = await server.connect()
                writer.write(request)
                writer.write_eof()
                assert (await reader.read()).startswith(b"HTTP/1.1 200")
                writer.close()

    run(main())


def test_complete_response_does_not_wait_for_what_the_application_does_next(run: Run) -> None:
    async def main() -> None:
        answered = threading.Event()
        found = []

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send, b"")
            found.append(answered.wait(10))  # the event loop is busy meanwhile

        def client(address: tuple[str, int]) -> None:
            with socket.create_connection(address) as sock:
                sock.sendall(HEAD)
                assert sock.recv(9) == b"HTTP/1.1 "
                answered.set()

        async with serving(app) as server, asyncio.timeout(20):
            await asyncio.to_thread(client, server.address)
        assert found == [True]

    run(main())


def test_nothing_waits_after_the_transport_was_taken() -> None:
    async def main() -> None:
        transport = DrivenTransport(asyncio.Protocol())
        output = _output.Output(transport, asyncio.get_running_loop())
        output.write(b"HTTP/1.1 200 OK\r\n\r\n")
        taken: Any = output.take_transport()
        output.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        taken.write(b"frame")
        assert [one[:12] for one in transport.writes] == [
            b"HTTP/1.1 200",
            b"HTTP/1.1 204",
            b"frame",
        ]

    asyncio.run(main())


def test_output_has_all_that_a_transport_has() -> None:
    transport = DrivenTransport(asyncio.Protocol())
    output: Any = _output.Output(transport, None)  # type: ignore[arg-type]
    for name in dir(asyncio.Transport):
        assert hasattr(output, name)
    output.pause_reading()
    assert transport.paused
    assert output.get_extra_info("peername") == ("127.0.0.1", 1)


def test_continue_is_sent_before_the_body_is_awaited(run: Run) -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await answer(send, message["body"])

    async def main() -> None:
        async with serving(app) as server, asyncio.timeout(10):
            reader, writer = await server.connect()
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert await response(reader) == (100, b"")
            writer.write(b"ab")
            assert await response(reader) == (200, b"ab")
            writer.close()

    run(main())
