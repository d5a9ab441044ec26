"""``bytepool.uvicorn.Protocol`` serves what uvicorn's own protocol serves, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import uvicorn
import websockets
from helpers import pattern
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streams_helpers import run_fixture, tls
from uvicorn_helpers import answer, config, post, response, serving, wait_until

from bytepool import Pool, asgi
from bytepool.uvicorn import Protocol, _body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20
SIZES = (
    0,
    1,
    1000,
    (128 << 10) - 1,
    128 << 10,
    (128 << 10) + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    3 * MIB + 7,
)

run = run_fixture()


def digest(*parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def application(pool: Pool) -> Starlette:
    async def body(request: Request) -> PlainTextResponse:
        return PlainTextResponse(digest(await request.body()))

    async def stream(request: Request) -> PlainTextResponse:
        return PlainTextResponse(digest(*[part async for part in request.stream()]))

    async def pooled(request: Request) -> PlainTextResponse:
        view = await asgi.body(request, pool=pool)
        assert isinstance(view, memoryview)
        return PlainTextResponse(digest(view))

    async def form(request: Request) -> PlainTextResponse:
        async with request.form() as form:
            file = form["file"]
            assert not isinstance(file, str)
            return PlainTextResponse(digest(await file.read()))

    routes = [body, stream, pooled, form]
    return Starlette(
        routes=[Route(f"/{route.__name__}", route, methods=["POST"]) for route in routes]
    )


@pytest.mark.parametrize("path", ["/body", "/stream", "/pooled"])
def test_bodies_of_all_sizes_arrive_on_one_connection(run: Run, path: str) -> None:
    async def main() -> None:
        pool = Pool()
        async with serving(application(pool)) as server:
            reader, writer = await server.connect()
            for size in SIZES:
                data = pattern(size)
                writer.write(post(data, path=path))
                assert await response(reader) == (200, digest(data).encode())
            writer.close()
        assert pool.stats().outstanding == 0

    run(main())


def test_chunked_bodies_arrive(run: Run) -> None:
    async def main() -> None:
        pool = Pool()
        async with serving(application(pool)) as server:
            data = [pattern(n) for n in (1, 100_000, 70_000)]

            async def parts() -> AsyncIterator[bytes]:
                for part in data:
                    yield part

            async with httpx.AsyncClient(base_url=server.url) as client:
                for path in ("/body", "/stream", "/pooled"):
                    answer = await client.post(path, content=parts())
                    assert answer.text == digest(*data)
        assert pool.stats().outstanding == 0

    run(main())


def test_http_clients_get_their_answers(run: Run) -> None:
    """httpx, aiohttp and curl, which sends Expect: 100-continue; and a form as from a browser."""

    async def main() -> None:
        pool, data = Pool(), pattern(2 * MIB)
        async with serving(application(pool)) as server:
            async with httpx.AsyncClient(base_url=server.url) as client:
                assert (await client.post("/body", content=data)).text == digest(data)
                answer = await client.post("/form", files={"file": ("a.bin", data)})
                assert answer.text == digest(data)
            async with aiohttp.ClientSession(server.url) as session:
                for path in ("/pooled", "/stream"):
                    async with session.post(path, data=io.BytesIO(data)) as reply:
                        assert await reply.text() == digest(data)
            curl = await asyncio.create_subprocess_exec(
                *("curl", "-sS", "--data-binary", "@-", "-H", "Expect: 100-continue"),
                *("--noproxy", "*", f"{server.url}/pooled"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            output, _ = await curl.communicate(data)
            assert output.decode() == digest(data)

    run(main())


def test_a_client_that_expects_100_continue_gets_it_when_the_application_reads(run: Run) -> None:
    async def main() -> None:
        may_read = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await may_read.wait()
            view = await asgi.body(scope, receive)
            await answer(send, digest(view).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(200_000)
            writer.write(post(b"", "Expect: 100-continue", length=len(data)))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(1), 0.02)
            may_read.set()
            assert await response(reader) == (100, b"")
            writer.write(data)
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with serving(application(Pool())) as server:
            reader, writer = await server.connect()
            bodies = [pattern(n) for n in (300_000, 5, MIB, 64 << 10, 0)]
            paths = ("/body", "/pooled", "/stream", "/pooled", "/body")
            writer.write(
                b"".join(post(data, path=path) for data, path in zip(bodies, paths, strict=True))
            )
            for data in bodies:
                assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_an_early_response_leaves_the_connection_usable(run: Run) -> None:
    """The rest of the body is received and dropped, as uvicorn does."""

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/ignored":
                await answer(send, b"no", 403)
            else:
                await answer(send, digest(await asgi.body(scope, receive)).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            for _ in range(3):
                data = pattern(3 * MIB)
                writer.write(post(data, path="/ignored"))
                assert await response(reader) == (403, b"no")
                await writer.drain()
                writer.write(post(data))
                assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_a_websocket_works_on_the_same_port(run: Run) -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                await answer(send, b"http")
                return
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "bytes": message["bytes"]})

        async with serving(app, ws="websockets-sansio") as server:
            async with websockets.connect(server.url.replace("http", "ws"), proxy=None) as socket:
                for size in (1, 70_000, 300_000):
                    await socket.send(pattern(size))
                    assert await socket.recv() == pattern(size)
            async with httpx.AsyncClient() as client:
                assert (await client.get(server.url)).text == "http"

    run(main())


def test_bodies_arrive_with_tls(run: Run) -> None:
    async def main() -> None:
        server_tls, client_tls = tls()
        pool = Pool()
        async with serving(application(pool), tls=server_tls) as server:
            options = {"ssl": client_tls, "server_hostname": "localhost"}
            reader, writer = await server.connect(**options)
            for path in ("/body", "/pooled", "/stream"):
                for size in (10, 100_000, 3 * MIB):
                    data = pattern(size)
                    writer.write(post(data, path=path))
                    assert await response(reader) == (200, digest(data).encode())
            writer.write(post(pattern(MIB), path="/body") + post(pattern(MIB), path="/pooled"))
            for _ in range(2):
                assert await response(reader) == (200, digest(pattern(MIB)).encode())
            writer.close()

    run(main())


def test_a_bad_request_is_answered_with_400(run: Run) -> None:
    async def main() -> None:
        async with serving(application(Pool())) as server:
            reader, writer = await server.connect()
            writer.write(b"POST / HTTP/1.1\r\nContent-Length: 70000\r\nContent-Length: 1\r\n\r\n")
            assert (await response(reader))[0] == 400
            assert await reader.read() == b""
            writer.close()

    run(main())


def test_what_came_before_a_disconnect_is_not_left_out(run: Run) -> None:
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


def test_a_stalled_client_is_cut_off(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.1

        pool = Pool()
        disconnected = asyncio.Event()

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            with pytest.raises(asgi.ClientDisconnectedError):
                await asgi.body(scope, receive, pool=pool)
            disconnected.set()

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(100_000), length=200_000))
            await asyncio.sleep(0.08)
            writer.write(pattern(10))
            await asyncio.sleep(0.08)
            assert pool.stats().outstanding == 1, "it has made progress"
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            await disconnected.wait()
            assert pool.stats().outstanding == 0
            writer.close()

    run(main())


def test_a_client_that_the_application_holds_back_is_not_cut_off(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.03

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.15)
            await answer(send, digest(await asgi.body(scope, receive)).encode())

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            data = pattern(MIB)
            writer.write(post(data))
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_a_cancelled_read_goes_on_later_and_leaves_the_memory_alone(run: Run) -> None:
    async def main() -> None:
        buffer = bytearray(100_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(asgi.Body(scope, receive).readinto(buffer), 0.05)
                buffer[:] = bytes(100_000)
            reply = await asgi.body(scope, receive)
            assert buffer == bytes(100_000), "nobody fills it any more"
            await answer(send, digest(reply).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(250_000)
            writer.write(post(data[:70_000], length=len(data)))
            await asyncio.sleep(0.15)
            writer.write(data[70_000:])
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
            writer.write(post(pattern(2 * _body.CHUNK), length=1 << 60))
            status, size = await response(reader)
            assert status == 200
            assert int(size) <= _body.CHUNK
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
