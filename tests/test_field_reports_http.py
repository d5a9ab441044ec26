"""Situations from the issue trackers of uvicorn, Starlette, FastAPI and hypercorn, on our protocol.

Each test names its thread. ``benches/http_uploads.py`` measures Kludex/uvicorn#443 (bodies of 100
MB are slow), and ``test_asgi.py`` sends large bodies to hypercorn (pgjones/hypercorn#89).
"""

from __future__ import annotations

import asyncio
import hashlib
import warnings
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, File, UploadFile
from helpers import pattern
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request  # noqa: TC002  (FastAPI looks at it)
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streams_helpers import run_fixture
from uvicorn_helpers import answer, post, response, serving

from bytepool import Pool, asgi
from bytepool.fastapi import PooledBody  # noqa: TC001  (FastAPI looks at it)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


def sha(data: Any) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_upload_above_a_megabyte_does_not_block(run: Run) -> None:
    """Kludex/uvicorn#79: flow control stopped reading for ever."""

    async def main() -> None:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.05)  # meanwhile the transport is paused
            body = b""
            more = True
            while more:
                message = await receive()
                body += message["body"]
                more = message["more_body"]
                await asyncio.sleep(0)
            await answer(send, sha(body).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(5 * MIB)
            writer.write(post(data))
            assert await response(reader) == (200, sha(data).encode())
            writer.close()

    run(main())


def test_a_wsgi_application_gets_its_upload(run: Run) -> None:
    """Kludex/uvicorn#371: uploads to WSGI applications."""

    async def main() -> None:
        def app(environ: Any, start_response: Any) -> list[bytes]:
            digest = sha(environ["wsgi.input"].read()).encode()
            start_response("200 OK", [("Content-Length", str(len(digest)))])
            return [digest]

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            async with serving(app, interface="wsgi") as server:
                reader, writer = await server.connect()
                data = pattern(2 * MIB)
                writer.write(post(data))
                assert await response(reader) == (200, sha(data).encode())
                writer.close()

    run(main())


@pytest.mark.parametrize("size", [1000, 150_000, 3 * MIB])
def test_a_middleware_may_read_the_body_first(run: Run, size: int) -> None:
    """streamlit/streamlit#16709: an upload hung when a middleware had read its body."""

    async def main() -> None:
        async def dispatch(request: Request, call_next: Any) -> Any:
            request.state.seen = sha(await request.body())
            return await call_next(request)

        async def upload(request: Request) -> PlainTextResponse:
            view = await asgi.body(request)
            assert request.state.seen == sha(view)
            return PlainTextResponse(sha(view))

        app = Starlette(
            routes=[Route("/", upload, methods=["POST"])],
            middleware=[Middleware(BaseHTTPMiddleware, dispatch=dispatch)],
        )
        async with serving(app) as server, httpx.AsyncClient() as client:
            data = pattern(size)
            assert (await client.post(server.url, content=data)).text == sha(data)

    run(main())


def test_asking_for_a_disconnect_loses_nothing_of_a_body(run: Run) -> None:
    """Kludex/starlette discussion 2215: is_disconnected() may consume a part of the body.

    While a chunk is being received, it does not.
    """

    async def main() -> None:
        async def upload(request: Request) -> PlainTextResponse:
            for _ in range(3):
                assert not await request.is_disconnected()
                await asyncio.sleep(0)
            return PlainTextResponse(sha(await request.body()))

        app = Starlette(routes=[Route("/", upload, methods=["POST"])])
        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(400_000)
            writer.write(post(data[:150_000], length=len(data)))
            await asyncio.sleep(0.05)
            writer.write(data[150_000:])
            assert await response(reader) == (200, sha(data).encode())
            writer.close()

    run(main())


def test_several_large_files_in_a_form(run: Run) -> None:
    """fastapi/fastapi#5413: several large files in one form."""

    async def main() -> None:
        app = FastAPI()

        @app.post("/upload")
        async def upload(files: Annotated[list[UploadFile], File()]) -> list[str]:
            return [sha(await file.read()) for file in files]

        async with serving(app) as server, httpx.AsyncClient() as client:
            contents = [pattern(n) for n in (3 * MIB, 70_000, 5)]
            files = [("files", (f"{i}.bin", data)) for i, data in enumerate(contents)]
            reply = await client.post(f"{server.url}/upload", files=files)
            assert reply.json() == [sha(data) for data in contents]

    run(main())


def test_a_body_is_streamed_as_it_arrives(run: Run) -> None:
    """fastapi/fastapi#2578: a route got its body only when all of it was there."""

    async def main() -> None:
        first = asyncio.Event()

        async def upload(request: Request) -> PlainTextResponse:
            body = b""
            async for part in request.stream():
                body += part
                first.set()
            return PlainTextResponse(sha(body))

        app = Starlette(routes=[Route("/", upload, methods=["POST"])])
        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(2 * MIB)
            writer.write(post(data[: MIB // 2], length=len(data)))
            await asyncio.wait_for(first.wait(), 5)
            writer.write(data[MIB // 2 :])
            assert await response(reader) == (200, sha(data).encode())
            writer.close()

    run(main())


def test_a_disconnect_in_a_dependency_is_no_bad_request(run: Run) -> None:
    """fastapi/fastapi#16269: a client that went away was reported as status 400."""

    async def main() -> None:
        errors: list[BaseException] = []
        app = FastAPI()

        @app.post("/")
        async def upload(body: PooledBody) -> int:
            return len(body)

        async def watched(scope: Any, receive: Any, send: Any) -> None:
            try:
                await app(scope, receive, send)
            except BaseException as error:
                errors.append(error)

        async with serving(watched) as server:
            _, writer = await server.connect()
            writer.write(post(pattern(150_000), length=MIB))
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.close()
            async with asyncio.timeout(5):
                while not errors:
                    await asyncio.sleep(0.01)
        assert type(errors[0]).__name__ == "ClientDisconnect"

    run(main())


def test_an_expectation_that_is_not_met_gets_its_answer_at_once(run: Run) -> None:
    """lalinsky/dusty#181: a rejected upload with Expect: 100-continue waited for its body."""

    async def main() -> None:
        async def upload(request: Request) -> PlainTextResponse:
            return PlainTextResponse(str(len(await asgi.body(request, max_size=10))))

        app = Starlette(routes=[Route("/", upload, methods=["POST"])])
        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", "Expect: 100-continue", length=1 << 40))
            assert (await asyncio.wait_for(response(reader), 5))[0] == 413
            writer.close()

    run(main())


def test_many_uploads_at_once_keep_to_the_budget(run: Run) -> None:
    """Kludex/starlette#579: uploads hog RAM."""

    async def main() -> None:
        pool = Pool(max_bytes=4 * MIB)

        async def upload(request: Request) -> PlainTextResponse:
            view = await asgi.body(request, pool=pool)
            await asyncio.sleep(0)
            return PlainTextResponse(sha(view))

        app = Starlette(routes=[Route("/", upload, methods=["POST"])])
        async with serving(app) as server, httpx.AsyncClient(timeout=20) as client:
            data = pattern(MIB)
            sent = [client.post(server.url, content=data) for _ in range(20)]
            assert {reply.text for reply in await asyncio.gather(*sent)} == {sha(data)}
        stats = pool.stats()
        assert stats.outstanding == 0
        assert stats.peak_outstanding_bytes <= 4 * MIB

    run(main())
