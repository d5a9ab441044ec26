"""``bytepool.asgi`` gives pooled bodies on any ASGI server."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import platform
import socket
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from helpers import pattern, run_python
from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config as HypercornConfig
from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_helpers import answer, serving

from bytepool import Pool, PoolExhaustedError, asgi
from bytepool.fastapi import BINARY, PooledBody, pooled_body

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KIB, MIB = 1 << 10, 1 << 20


def script(*messages: Any) -> Callable[[], Any]:
    """An ASGI ``receive`` that returns these messages: bytes are parts, None is a disconnect."""
    left = list(messages)

    async def receive() -> Any:
        part = left.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(left)}

    return receive


def made(pool: Pool) -> int:
    """How many requests the pool has served."""
    stats = pool.stats()
    return stats.transient + sum(bucket.hits + bucket.misses for bucket in stats.buckets)


def scope(length: int | None = None) -> dict[str, Any]:
    headers = [] if length is None else [(b"content-length", b"%d" % length)]
    return {"type": "http", "headers": headers}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 300_000])
@pytest.mark.parametrize("step", [1 << 16, 50_000, 1 << 20])
def test_a_body_is_returned_whole(known: bool, size: int, step: int) -> None:
    data = pattern(size)
    parts = [data[i : i + step] for i in range(0, size, step)] or [b""]

    async def main() -> None:
        for last in ([], [b""], [b"", b""]):
            pool = Pool()
            receive = script(*parts, *last)
            view = await asgi.body(scope(size if known else None), receive, pool=pool)
            assert view == data
            assert pool.stats().outstanding == 1
            del view
            assert pool.stats().outstanding == 0

    asyncio.run(main())


def test_a_known_length_takes_one_buffer_of_that_size() -> None:
    async def main() -> None:
        pool = Pool()
        view = await asgi.body(scope(100_000), script(bytes(100_000)), pool=pool)
        assert len(view) == 100_000
        assert made(pool) == 1

    asyncio.run(main())


@pytest.mark.parametrize("length", [3, 30])
def test_a_body_of_another_length_than_said_is_returned_as_it_is(length: int) -> None:
    """A middleware may decompress it."""

    async def main() -> None:
        view = await asgi.body(scope(length), script(b"ten", b" bytes.."))
        assert bytes(view) == b"ten bytes.."

    asyncio.run(main())


def test_body_reads_into_memory_of_ones_own() -> None:
    async def main() -> None:
        source = asgi.Body(scope(10), script(b"abc", b"defg", b"", b"hij"))
        assert source.size == 10
        first = bytearray(5)
        assert await source.readinto(first) == 5
        assert first == b"abcde"
        view = await source.readview(2)
        assert bytes(view) == b"fg"
        second = memoryview(bytearray(8)).cast("B", (2, 4))
        assert await source.readinto(second) == 3
        assert second.tobytes() == b"hij" + bytes(5)
        assert await source.readinto(first) == 0
        assert len(await source.readview(5)) == 0

    asyncio.run(main())


def test_readinto_needs_a_writable_contiguous_buffer() -> None:
    async def main() -> None:
        source = asgi.Body(scope(3), script(b"abc"))
        for buffer in (b"abc", memoryview(bytearray(6))[::2]):
            with pytest.raises(TypeError, match="writable and contiguous"):
                await source.readinto(buffer)
        assert bytes(await source.readview(3)) == b"abc"

    asyncio.run(main())


def test_a_cancelled_read_loses_nothing() -> None:
    async def main() -> None:
        first = script(b"abc", b"def")
        waits = [False, True, False]

        async def receive() -> Any:
            if waits.pop(0):
                await asyncio.sleep(10)
            return await first()

        source = asgi.Body(scope(6), receive)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(source.readinto(bytearray(6)), 0.01)
        assert bytes(await source.readview(6)) == b"abcdef"

    asyncio.run(main())


def test_a_body_above_max_size_is_refused() -> None:
    async def main() -> None:
        pool = Pool()
        with pytest.raises(asgi.BodyTooLargeError, match="11 bytes is above max_size"):
            await asgi.body(scope(11), script(), max_size=10, pool=pool)
        assert made(pool) == 0
        with pytest.raises(asgi.BodyTooLargeError) as refused:
            await asgi.body(scope(), script(b"12345", b"678901"), max_size=10, pool=pool)
        assert refused.value.status_code == 413
        assert pool.stats().outstanding == 0
        assert len(await asgi.body(scope(), script(b"1234567890"), max_size=10)) == 10

    asyncio.run(main())


def test_a_disconnect_is_raised_and_returns_the_memory() -> None:
    async def main() -> None:
        pool = Pool()
        with pytest.raises(asgi.ClientDisconnectedError):
            await asgi.body(scope(10), script(b"12345", None), pool=pool)
        assert pool.stats().outstanding == 0

    asyncio.run(main())


def test_a_body_waits_for_the_budget_and_a_growing_one_does_not() -> None:
    async def main() -> None:
        pool = Pool(max_bytes=128 * KIB)
        held = pool.view(128 * KIB)
        task = asyncio.create_task(asgi.body(scope(KIB), script(bytes(KIB)), pool=pool))
        await asyncio.sleep(0.01)
        assert not task.done()
        del held
        assert len(await task) == KIB
        del task
        await asyncio.sleep(0)
        with pytest.raises(PoolExhaustedError):
            await asgi.body(scope(), script(*[bytes(50 * KIB)] * 3), pool=pool)
        assert pool.stats().outstanding == 0

    asyncio.run(main())


def test_a_starlette_request_that_was_read_gives_its_body_again() -> None:
    async def main() -> None:
        request = Request({**scope(3), "method": "POST"}, script(b"abc"))
        assert await request.body() == b"abc"
        assert bytes(await asgi.body(request)) == b"abc"

    asyncio.run(main())


def test_a_starlette_request_is_not_read_twice() -> None:
    async def main() -> None:
        request = Request({**scope(3), "method": "POST"}, script(b"abc"))
        assert bytes(await asgi.body(request)) == b"abc"
        with pytest.raises(RuntimeError, match="Stream consumed"):
            await request.body()
        with pytest.raises(RuntimeError, match="was read before"):
            await asgi.body(request)

    asyncio.run(main())


async def hash_body(scope: Any, receive: Any, send: Any) -> None:
    """An application for the servers below."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    view = await asgi.body(scope, receive)
    await answer(send, hashlib.sha256(view).hexdigest().encode())


async def check_server(url: str) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for size in (1, 70_000, 70_000):
            yield pattern(size)

    async with httpx.AsyncClient() as client:
        for size in (0, 1000, 200_000, 3 * MIB):
            reply = await client.post(url, content=pattern(size))
            assert reply.text == hashlib.sha256(pattern(size)).hexdigest()
        reply = await client.post(url, content=parts())
        whole = b"".join([part async for part in parts()])
        assert reply.text == hashlib.sha256(whole).hexdigest()


@pytest.mark.parametrize("http", [HttpToolsProtocol, H11Protocol])
def test_bodies_on_uvicorns_own_protocols(http: Any) -> None:
    async def main() -> None:
        async with serving(hash_body, http) as server:
            await check_server(server.url)

    asyncio.run(main())


def test_bodies_on_hypercorn() -> None:
    async def main() -> None:
        stop = asyncio.Event()
        with socket.create_server(("127.0.0.1", 0)) as sock:
            settings = HypercornConfig()
            settings.errorlog = None
            settings.bind = [f"fd://{os.dup(sock.fileno())}"]
            task = asyncio.create_task(
                hypercorn_serve(hash_body, settings, shutdown_trigger=stop.wait)
            )
            try:
                await check_server(f"http://127.0.0.1:{sock.getsockname()[1]}")
            finally:
                stop.set()
                await task

    asyncio.run(main())


SMALL = Pool()
SmallBody = Annotated[memoryview, Depends(pooled_body(max_size=10, pool=SMALL))]


@pytest.mark.thread_unsafe(reason="its threads would share one pool, whose counters it checks")
def test_a_fastapi_route_gets_its_pooled_body() -> None:
    app = FastAPI()

    @app.post("/upload/{name}", openapi_extra=BINARY)
    async def upload(name: str, body: PooledBody, loud: bool = False) -> dict[str, Any]:
        assert isinstance(body, memoryview)
        return {"name": name, "size": len(body), "loud": loud}

    @app.post("/small")
    async def small(body: SmallBody) -> int:
        return len(body)

    async def main() -> Any:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            reply = await client.post("/upload/a?loud=1", content=pattern(100_000))
            assert reply.json() == {"name": "a", "size": 100_000, "loud": True}
            assert (await client.post("/small", content=b"12345")).json() == 5
            too_large = await client.post("/small", content=b"12345678901")
            assert too_large.status_code == 413
            assert "above max_size (10 bytes)" in too_large.json()["detail"]
            assert made(SMALL) == 1
            return (await client.get("/openapi.json")).json()

    schema = asyncio.run(main())
    operation = schema["paths"]["/upload/{name}"]["post"]
    assert [parameter["name"] for parameter in operation["parameters"]] == ["name", "loud"]
    assert operation["requestBody"] == json.loads(json.dumps(BINARY["requestBody"]))
    assert "requestBody" not in schema["paths"]["/small"]["post"]


FAULTS = """
import asyncio, resource
from bytepool import Pool, asgi

async def main():
    pool, size, rounds = Pool(), 4 << 20, 40
    scope = {"type": "http", "headers": [(b"content-length", b"%d" % size)]}
    data = bytes(256 << 10)

    async def upload():
        left = size

        async def receive():
            # uvicorn collects what it has received, and makes a message of it.
            nonlocal left
            body = bytearray()
            body += bytearray(data)
            left -= len(body)
            await asyncio.sleep(0)
            return {"type": "http.request", "body": bytes(body), "more_body": left > 0}

        assert len(await asgi.body(scope, receive, pool=pool)) == size

    for turn in range(rounds):
        if turn == rounds // 4:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        await asyncio.gather(upload(), upload())
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    print(faults / (2 * size * rounds * 3 / 4) * 1e6)

asyncio.run(main())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc learns from a block")
def test_pages_of_freed_messages_of_any_server_are_used_again() -> None:
    """Otherwise each large block returns to the system, and its pages are faulted in anew."""
    assert float(run_python(FAULTS)) < 20
