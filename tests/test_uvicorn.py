"""``bytepool.uvicorn.Protocol`` serves what uvicorn's own protocol serves, on both event loops."""

from __future__ import annotations

import asyncio
import io
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import aiohttp
import h11
import httptools
import httpx
import pytest
import websockets
from helpers import pattern
from streams_helpers import run_fixture, tls
from uvicorn_helpers import answer, application, digest, post, response, serving

from bytepool import Pool, asgi

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
            if shutil.which("curl"):  # not every system has it
                # Not by the loop: two of uvloop's cannot start processes at the same time.
                curl = await asyncio.to_thread(
                    subprocess.run,
                    [
                        *("curl", "-sS", "--data-binary", "@-", "-H", "Expect: 100-continue"),
                        *("--noproxy", "*", f"{server.url}/pooled"),
                    ],
                    check=True,
                    input=data,
                    stdout=subprocess.PIPE,
                )
                assert curl.stdout.decode() == digest(data)

    run(main())


class HttptoolsClient:
    """Parses responses with httptools."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._body = b""
        self.done: list[tuple[int, bytes]] = []

    def request(self, path: str, data: bytes) -> bytes:
        return post(data, path=path)

    def receive(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self.done.append((self._parser.get_status_code(), self._body))
        self._body = b""


class H11Client:
    """Makes requests and parses responses with h11, which checks both."""

    def __init__(self) -> None:
        self._connection = h11.Connection(h11.CLIENT)
        self._status, self._body = 0, b""
        self.done: list[tuple[int, bytes]] = []

    def request(self, path: str, data: bytes) -> bytes:
        headers = [("Host", "a"), ("Content-Length", str(len(data)))]
        events = [
            h11.Request(method="POST", target=path, headers=headers),
            h11.Data(data=data),
            h11.EndOfMessage(),
        ]
        return b"".join(self._connection.send(event) or b"" for event in events)

    def receive(self, data: bytes) -> None:
        self._connection.receive_data(data)
        while not isinstance(event := self._connection.next_event(), type(h11.NEED_DATA)):
            if isinstance(event, h11.Response):
                self._status, self._body = event.status_code, b""
            elif isinstance(event, h11.Data):
                self._body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.done.append((self._status, self._body))
                self._connection.start_next_cycle()
                return


@pytest.mark.parametrize("kind", [HttptoolsClient, H11Client])
def test_raw_clients_get_their_answers(run: Run, kind: Any) -> None:
    """h11 and httptools, with many requests on one connection."""

    async def main() -> None:
        client = kind()
        async with serving(application(Pool())) as server:
            reader, writer = await server.connect()
            for path in ("/body", "/pooled", "/stream"):
                for size in (0, 1000, 200_000, 2 * MIB):
                    data = pattern(size)
                    writer.write(client.request(path, data))
                    while not client.done:
                        client.receive(await reader.read(1 << 16))
                    assert client.done.pop() == (200, digest(data).encode())
            writer.close()

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
