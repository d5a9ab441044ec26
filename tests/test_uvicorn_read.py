"""Bytes that the socket has are read without the event loop; how large chunks are."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streams_helpers import run_fixture
from uvicorn_helpers import PROTOCOLS, answer, digest, post, response, serving, wait_until

from bytepool import asgi
from bytepool.uvicorn import _chunks, _http
from bytepool.uvicorn._protocol import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


async def upload(app: Any, data: bytes) -> tuple[int, bytes]:
    """Send the data as fast as the server takes it, and return the response."""
    async with serving(app) as server:
        with socket.create_connection(server.address) as sock:
            await asyncio.to_thread(sock.sendall, post(data))
            reader, writer = await asyncio.open_connection(sock=sock)
            answered = await response(reader)
            writer.close()
            return answered


def routes(endpoint: Any) -> Starlette:
    return Starlette(routes=[Route("/", endpoint, methods=["POST"])])


@pytest.mark.parametrize("pooled", [False, True])
def test_what_the_socket_has_is_read_without_the_event_loop(
    run: Run, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    received_by_loop = 0
    buffer_updated = Protocol.buffer_updated

    def counted(self: Protocol, n: int) -> None:
        nonlocal received_by_loop
        received_by_loop += n
        buffer_updated(self, n)

    async def endpoint(request: Request) -> PlainTextResponse:
        await asyncio.sleep(0.05)
        return PlainTextResponse(
            digest(await asgi.body(request) if pooled else await request.body())
        )

    monkeypatch.setattr(Protocol, "buffer_updated", counted)
    data = pattern(3 * MIB)
    run(check(upload(routes(endpoint), data), data))
    assert received_by_loop < len(data) - 50_000


async def check(answered: Coroutine[Any, Any, tuple[int, bytes]], data: bytes) -> None:
    assert await answered == (200, digest(data).encode())


def use_eager_tasks() -> None:
    # asyncio's own factory of CPython 3.13.0 does not take all that uvloop gives it.
    def eager(loop: Any, coro: Any, **options: Any) -> Any:
        task: Any = asyncio.Task
        return task(coro, loop=loop, **{**options, "eager_start": True})

    asyncio.get_running_loop().set_task_factory(eager)


needs_eager_tasks = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="there are no eager tasks"
)


@needs_eager_tasks
def test_what_came_with_the_headers_is_first_though_the_task_begins_at_once(run: Run) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(digest(await asgi.body(request)))

    async def main() -> None:
        use_eager_tasks()
        data = pattern(3 * MIB)
        await check(upload(routes(endpoint), data), data)

    run(main())


@needs_eager_tasks
@pytest.mark.parametrize("pooled", [False, True])
def test_a_pipelined_upload_may_wait_for_more_though_its_task_begins_at_once(
    run: Run, pooled: bool
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if pooled:
            size = len(await asgi.body(scope, receive))
        else:
            size = len(await Request(scope, receive).body())
        if scope["path"] == "/first":
            # The second one begins in the callback of this response.
            task = asyncio.create_task(receive())
            await asyncio.sleep(0.02)
            task.cancel()
        await answer(send, b"%d" % size)

    async def main() -> None:
        use_eager_tasks()
        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(200_000), path="/first"))
            writer.write(post(pattern(1000), length=200_000))
            assert await response(reader) == (200, b"200000")
            await asyncio.sleep(0.02)
            writer.write(pattern(199_000))
            assert await response(reader) == (200, b"200000")
            writer.close()

    run(main())


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_without_a_task_is_refused_as_by_uvicorn(
    run: Run, protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if coro.__name__ == "run_asgi":
            coro.close()
            raise RuntimeError("no more tasks")
        return asyncio.Task(coro, loop=loop, **options)

    async def main() -> None:
        async with serving(None, PROTOCOLS[protocol]) as server:
            reader, writer = await server.connect()
            asyncio.get_running_loop().set_task_factory(factory)
            writer.write(post(pattern(200_000)))
            assert (await response(reader))[0] == 400
            writer.close()

    run(main())
    assert "asyncio" not in [record.name for record in caplog.records]


@pytest.mark.parametrize("known", [(), _http.UNBUFFERED])
def test_transports_that_may_keep_bytes_are_left_to_the_event_loop(
    run: Run, monkeypatch: pytest.MonkeyPatch, known: tuple[str, ...]
) -> None:
    reads = []
    read = os.readv

    def recorded(fd: int, buffers: Any) -> int:
        reads.append(fd)
        return read(fd, buffers)

    async def endpoint(request: Request) -> PlainTextResponse:
        return PlainTextResponse(digest(await request.body()))

    monkeypatch.setattr(_http, "UNBUFFERED", known)
    monkeypatch.setattr(os, "readv", recorded)
    data = pattern(3 * MIB)
    run(check(upload(routes(endpoint), data), data))
    assert bool(reads) == bool(known)


@pytest.mark.parametrize("in_place", [False, True])
def test_other_tasks_run_between_chunks_that_are_there(run: Run, in_place: bool) -> None:
    async def main() -> None:
        steps = 0
        by_chunk = []

        async def other() -> None:
            nonlocal steps
            while True:
                steps += 1
                await asyncio.sleep(0)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            incoming = scope["extensions"]["bytepool"]
            task = asyncio.create_task(other())
            while incoming.left:
                before = steps
                if in_place:
                    view = memoryview(bytearray(min(256 << 10, incoming.left)))
                    await incoming.receive(view)
                else:
                    await receive()
                by_chunk.append(steps - before)
            task.cancel()
            await answer(send, b"")

        assert await upload(app, pattern(8 * MIB)) == (200, b"")
        assert len(by_chunk) > 10
        assert all(by_chunk[1:])

    run(main())


# Of 2 MiB, sent before the client leaves. The application has received all, one chunk, or nothing.
@pytest.mark.parametrize(
    ("sent", "received"),
    [(2 * MIB, 2 * MIB), (MIB, 1), (MIB, 0), (300_000, 0)],
)
def test_an_application_that_asks_again_and_again_learns_of_a_disconnect(
    run: Run, sent: int, received: int
) -> None:
    async def main() -> None:
        asked = asyncio.Event()
        seen = asyncio.Event()

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            size = 0
            while size < received:
                size += len((await receive())["body"])
            request = Request(scope, receive)
            asked.set()
            while not await request.is_disconnected():
                await asyncio.sleep(0.001)
            seen.set()

        async with serving(app) as server:
            _, writer = await server.connect()
            writer.write(post(pattern(sent), length=2 * MIB))
            await asked.wait()
            writer.close()
            async with asyncio.timeout(5):
                await seen.wait()

    run(main())


def test_a_background_task_learns_of_a_disconnect(run: Run) -> None:
    async def main() -> None:
        seen = asyncio.get_running_loop().create_future()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, b"early")
            seen.set_result(await Request(scope, receive).is_disconnected())

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(MIB)))
            assert await response(reader) == (200, b"early")
            assert await seen  # as with uvicorn: after the response, there is nothing to receive
            writer.close()

    run(main())


def test_asking_for_a_disconnect_loses_no_byte(run: Run) -> None:
    async def endpoint(request: Request) -> PlainTextResponse:
        parts = []
        await asyncio.sleep(0.05)
        assert not await request.is_disconnected()
        async for part in request.stream():
            parts.append(part)
            await asyncio.sleep(0.01)
            if part:
                assert not await request.is_disconnected()
        return PlainTextResponse(digest(b"".join(parts)))

    data = pattern(3 * MIB)
    run(check(upload(routes(endpoint), data), data))


def test_a_socket_that_got_the_number_of_a_closed_one_is_not_read(run: Run) -> None:
    async def main() -> None:
        flows = []

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            flows.append(scope["extensions"]["bytepool"]._http.flow)
            await receive()

        async with serving(app) as server:
            _, writer = await server.connect()
            writer.write(post(b"", length=MIB))
            await wait_until(lambda: flows)
            writer.transport.abort()
            await wait_until(lambda: not server.state.connections)
        near, far = socket.socketpair()
        with near, far:
            flows[0]._fd = near.fileno()
            far.send(b"of another")
            assert flows[0].read_into(memoryview(bytearray(10))) == 0
            assert near.recv(10) == b"of another"

    run(main())


def test_an_application_that_keeps_its_chunks_gets_larger_ones(run: Run) -> None:
    async def main(keep: bool) -> None:
        sizes = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            kept = []
            more = True
            while more:
                message = await receive()
                more = message["more_body"]
                sizes.append(len(message["body"]))
                if keep:
                    kept.append(message["body"])
            await answer(send, b"")

        assert await upload(app, pattern(10 * MIB)) == (200, b"")
        assert sum(sizes) == 10 * MIB
        assert sizes[:2] == [_chunks.CHUNK] * 2
        assert max(sizes) == (_chunks.KEPT_CHUNK if keep else _chunks.CHUNK)

    run(main(True))
    run(main(False))


@pytest.mark.parametrize("size", [200_000, MIB, 3 * MIB])
def test_only_the_application_has_what_it_received(run: Run, size: int) -> None:
    async def main() -> None:
        references: list[int] = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            messages = [await receive()]
            while messages[-1]["more_body"]:
                messages.append(await receive())
            alone = {"body": bytes(1000)}
            bodies = [message["body"] for message in [*messages, alone]]
            messages.clear()
            references.extend(map(sys.getrefcount, bodies))
            await answer(send, b"")

        assert await upload(app, pattern(size)) == (200, b"")
        assert references[:-2] == [references[-2]] * (len(references) - 2)
        assert references[-1] == references[-2] + 1, "alone still has its own"

    run(main())
