"""Uploads hold no more memory than they need, and no longer."""

from __future__ import annotations

import asyncio
import random
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern, without_collector
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streams_helpers import run_fixture
from uvicorn_helpers import answer, digest, post, record_timers, response, serving, wait_until

from bytepool import Pool, asgi
from bytepool.uvicorn import _chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


def test_max_size_is_a_413_before_anything_is_allocated(run: Run) -> None:
    async def main() -> None:
        pool = Pool()

        async def upload(request: Request) -> PlainTextResponse:
            await asgi.body(request, max_size=MIB, pool=pool)
            return PlainTextResponse("taken")

        app = Starlette(routes=[Route("/", upload, methods=["POST"])])
        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=MIB + 1))
            status, text = await response(reader)
            assert status == 413
            assert text == b"a body of 1048577 bytes is above max_size (1048576 bytes)"
            writer.close()
        assert pool.stats().peak_outstanding == 0

    run(main())


def test_a_budget_makes_uploads_wait_in_line(run: Run) -> None:
    async def main() -> None:
        pool = Pool(max_bytes=MIB)  # one at a time
        most = 0
        asked: list[str] = []
        order: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal most
            asked.append(scope["path"])
            view = await asgi.body(scope, receive, pool=pool)
            order.append(scope["path"])
            await asyncio.sleep(0.01)
            most = max(most, pool.stats().outstanding_bytes)
            await answer(send, bytes(view[:1]))

        async with serving(app) as server:
            connections = [await server.connect() for _ in range(6)]
            for i, (_, writer) in enumerate(connections):
                writer.write(post(pattern(MIB), path=f"/{i}"))
                await wait_until(lambda: len(asked) > i)  # noqa: B023
            for reader, writer in connections:
                assert (await response(reader))[0] == 200
                writer.close()
        assert order == asked == [f"/{i}" for i in range(6)]
        assert most == MIB
        assert pool.stats().outstanding == 0

    run(main())


def test_disconnects_in_the_middle_return_all_memory(run: Run) -> None:
    async def main() -> None:
        pool = Pool()
        ended = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal ended
            try:
                if scope["path"] == "/whole":
                    await asgi.body(scope, receive, pool=pool)
                else:
                    body = asgi.Body(scope, receive, pool=pool)
                    while await body.readview(150_000):
                        pass
                await answer(send, b"")
            finally:
                ended += 1

        choose = random.Random(3)
        async with serving(app) as server:
            for i in range(40):
                _, writer = await server.connect()
                writer.write(
                    post(
                        pattern(choose.randrange(2 * MIB)),
                        path=choose.choice(("/whole", "/parts")),
                        length=2 * MIB,
                    )
                )
                if i % 2:
                    await writer.drain()
                    writer.close()
                else:
                    writer.transport.abort()
            # A request that is cut off with its headers never starts.
            await wait_until(lambda: not server.state.tasks and not server.state.connections)
        assert ended > 10
        assert pool.stats().outstanding == 0

    run(main())


@pytest.mark.parametrize("how", ["plain", "request", "stream", "middleware", "fails", "early"])
def test_no_message_is_kept_in_a_reference_cycle(run: Run, how: str) -> None:
    """Without the garbage collector, every buffer is returned when its request is answered."""

    async def main() -> None:
        pool = Pool()

        async def upload(request: Request) -> PlainTextResponse:
            if how == "stream":
                async for part in request.stream():
                    del part
                return PlainTextResponse("")
            view = await asgi.body(request, pool=pool)
            if how == "fails":
                raise RuntimeError(f"with {len(view)} bytes")
            return PlainTextResponse(str(len(view)))

        async def dispatch(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        async def plain(scope: Any, receive: Any, send: Any) -> None:
            if how == "early":
                body = asgi.Body(scope, receive, pool=pool)
                view = await body.readview(MIB)
            else:
                view = await asgi.body(scope, receive, pool=pool)
            await answer(send, str(len(view)).encode())

        middleware = [Middleware(BaseHTTPMiddleware, dispatch=dispatch)]
        app: Any = plain
        if how not in ("plain", "early"):
            app = Starlette(
                routes=[Route("/", upload, methods=["POST"])],
                middleware=middleware if how == "middleware" else [],
            )
        async with serving(app) as server:
            reader, writer = await server.connect()
            for _ in range(3):
                writer.write(post(pattern(3 * MIB)))
                status, _ = await response(reader)
                if status == 500:
                    writer.close()
                    reader, writer = await server.connect()
                await wait_until(lambda: pool.stats().outstanding == 0)
            writer.close()

    with without_collector():
        run(main())


def test_a_middleware_that_answers_itself_gets_no_memory_filled(run: Run) -> None:
    """The bytes of its message are copied, and what comes after it does not fill the view."""

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            async def replaced() -> Any:
                return {"type": "http.request", "body": b"replaced", "more_body": False}

            view = await asgi.body(scope, replaced)
            assert bytes(view) == b"replaced"
            kept = scope["extensions"]["bytepool"]
            assert (await receive())["body"] == pattern(150_000)
            assert bytes(view) == b"replaced"
            assert kept.left == 0
            await answer(send, b"done")

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(150_000)))
            assert await response(reader) == (200, b"done")
            writer.close()

    run(main())


def test_the_transport_reads_at_most_a_chunk_ahead(run: Run) -> None:
    async def main() -> None:
        go_on = asyncio.Event()
        kept: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            kept.append(scope["extensions"]["bytepool"])
            await receive()
            await go_on.wait()
            kept.append(kept[0].coming)
            await answer(send, b"")

        async with serving(app) as server:
            size = 40 * MIB
            reader, writer = await server.connect()
            writer.write(post(bytes(size)))
            await asyncio.sleep(0.1)
            go_on.set()
            assert (await response(reader))[0] == 200
            assert size - kept[1] <= 2 * _chunks.CHUNK
            writer.close()

    run(main())


def test_memory_of_the_application_is_filled_without_a_timer(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers = record_timers(monkeypatch)

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await answer(send, digest(await asgi.body(scope, receive)).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            data = pattern(MIB)
            # The first bytes of the body come together with the head, and the others in parts.
            writer.write(post(data[:1000], length=MIB))
            for part in (data[1000:300_000], data[300_000:]):
                await asyncio.sleep(0.01)
                writer.write(part)
            assert await response(reader) == (200, digest(data).encode())
            assert timers == [60.0]  # of stall_timeout
            writer.close()

    run(main())


def test_polls_for_a_disconnect_do_not_read_the_next_request_ahead(run: Run) -> None:
    """A pipelined upload waits for the request before it, and the transport waits, too."""

    async def main() -> None:
        coming: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            coming.append(scope["extensions"]["bytepool"].coming)
            request = Request(scope, receive)
            assert len(await request.body()) in (MIB, size)
            for _ in range(20):
                assert not await request.is_disconnected()
                await asyncio.sleep(0.005)
            await answer(send, b"")

        async with serving(app) as server:
            size = 20 * MIB
            reader, writer = await server.connect()
            writer.write(post(bytes(MIB)) + post(bytes(size)))
            for _ in range(2):
                assert (await response(reader))[0] == 200
            assert size - coming[1] <= 2 * _chunks.CHUNK
            writer.close()

    run(main())


MESSAGE: ContextVar[object] = ContextVar("MESSAGE")


def test_no_message_is_kept_in_a_context(run: Run) -> None:
    """What the event loop keeps of a connection does not have a request's context variables."""

    async def main() -> None:
        pool = Pool()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            source = asgi.Body(scope, receive, pool=pool)
            MESSAGE.set(await source.readview(MIB))
            await source.readview(2 * MIB)
            await answer(send, b"")

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(3 * MIB)))
            await response(reader)
            await wait_until(lambda: pool.stats().outstanding == 0)
            writer.close()

    run(main())


def test_a_connection_is_freed_without_the_collector_when_it_is_closed(run: Run) -> None:
    async def main() -> None:
        bodies: list[Any] = []
        states: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if "bytepool" in scope.get("extensions", {}):
                bodies.append(weakref.ref(scope["extensions"]["bytepool"]))
            scope["state"]["kept"] = state = Pool()
            states.append(weakref.ref(state))
            await receive()
            await answer(send, b"")

        async with serving(app) as server:
            for length in (100, 150_000, 300_000):
                reader, writer = await server.connect()
                writer.write(post(bytes(min(length, 150_000)), length=length))
                await response(reader)
                writer.close()
            await wait_until(lambda: not server.state.connections)
        await asyncio.sleep(0.01)
        assert [body() for body in bodies] == [None, None]
        assert [state() for state in states] == [None, None, None]

    with without_collector():
        run(main())
