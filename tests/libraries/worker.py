"""Gets values through one library, and prints as JSON what that cost.

``python -m libraries.worker LIBRARY LOOP STREAMS PORT SIZE COUNT CONNECTIONS``, with "asyncio" or
"bytepool" as STREAMS. Every value is compared with the expected one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import ssl
import sys
import time
from typing import TYPE_CHECKING, Any

from libraries.values import value

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Get = Callable[[int], Awaitable[bytes]]

HOST = "127.0.0.1"


@contextlib.asynccontextmanager
async def redis(port: int) -> AsyncIterator[Get]:
    import redis.asyncio

    async with redis.asyncio.Redis(host=HOST, port=port) as client:

        async def get(size: int) -> bytes:
            content = await client.get(f"value:{size}")
            assert isinstance(content, bytes)
            return content

        yield get


@contextlib.asynccontextmanager
async def redis_without_hiredis(port: int) -> AsyncIterator[Get]:
    sys.modules["hiredis"] = None  # type: ignore[assignment]
    async with redis(port) as get:
        yield get


@contextlib.asynccontextmanager
async def nats(port: int, **options: Any) -> AsyncIterator[Get]:
    import nats

    client = await nats.connect(f"nats://{HOST}:{port}", **options)

    async def get(size: int) -> bytes:
        message = await client.request("value", b"%d" % size, timeout=60)
        return message.data

    yield get
    await client.close()


def nats_with_tls(port: int) -> contextlib.AbstractAsyncContextManager[Get]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return nats(port, tls=context)


@contextlib.asynccontextmanager
async def mysql(port: int) -> AsyncIterator[Get]:
    import aiomysql

    connection = await aiomysql.connect(host=HOST, port=port, user="root")

    async def get(size: int) -> bytes:
        async with connection.cursor() as cursor:
            await cursor.execute(f"SELECT value FROM bytes.stored WHERE size = {size}")
            (content,) = await cursor.fetchone()
        assert isinstance(content, bytes)
        return content

    yield get
    await connection.ensure_closed()


@contextlib.asynccontextmanager
async def amqp(port: int) -> AsyncIterator[Get]:
    import aio_pika

    async with (
        await aio_pika.connect(host=HOST, port=port) as connection,
        connection.channel() as channel,
    ):

        async def get(size: int) -> bytes:
            queue = await channel.get_queue(str(size))
            message = await queue.get()
            await message.reject(requeue=True)
            return message.body

        yield get


@contextlib.asynccontextmanager
async def hypercorn(_: int) -> AsyncIterator[Get]:
    """Receive values as a server: a child process uploads one for each line on its stdin."""
    import hypercorn.asyncio
    import hypercorn.config

    bodies: asyncio.Queue[bytes] = asyncio.Queue()

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        chunks = []
        more = True
        while more:
            message = await receive()
            chunks.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        bodies.put_nowait(b"".join(chunks))

    listener = socket.create_server((HOST, 0))
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel = "CRITICAL"
    over = asyncio.Event()
    serving = asyncio.create_task(
        hypercorn.asyncio.serve(app, config, shutdown_trigger=over.wait, mode="asgi")
    )
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libraries.uploader", str(listener.getsockname()[1])),
        stdin=asyncio.subprocess.PIPE,
    )
    assert child.stdin

    async def get(size: int) -> bytes:
        assert child.stdin
        child.stdin.write(b"%d\n" % size)
        return await bodies.get()

    yield get
    child.stdin.close()
    await child.wait()
    over.set()
    await serving


LIBRARIES = {
    "redis-py": redis_without_hiredis,
    "redis-py, hiredis": redis,
    "nats-py": nats,
    "nats-py, TLS": nats_with_tls,
    "aiomysql": mysql,
    "aio-pika": amqp,
    "hypercorn": hypercorn,
}


def readers() -> set[str]:
    """Return the classes of all stream readers, asyncio's or ours, without those of libraries."""
    found = (item for item in gc.get_objects() if isinstance(item, asyncio.streams.StreamReader))
    return {
        next(
            f"{kind.__module__}.{kind.__qualname__}"
            for kind in type(item).__mro__
            if kind.__module__.startswith(("asyncio.", "bytepool."))
        )
        for item in found
    }


async def run(library: str, port: int, size: int, count: int, connections: int) -> dict[str, Any]:
    """Get the value ``count`` times over each of the connections, one after another."""
    expected = value(size)
    connect = LIBRARIES[library]
    async with connect(port) as get:
        for _ in range(2):  # what is imported and allocated only once
            assert await get(size) == expected
        kinds = sorted(readers())
        if connections == 1:
            cpu, begin = time.process_time(), time.perf_counter()
            for _ in range(count):
                assert await get(size) == expected
            cpu, seconds = time.process_time() - cpu, time.perf_counter() - begin
    if connections > 1:
        cpu, begin = time.process_time(), time.perf_counter()
        for _ in range(connections):
            async with connect(port) as get:
                for _ in range(count):
                    assert await get(size) == expected
        cpu, seconds = time.process_time() - cpu, time.perf_counter() - begin
    return {"cpu": cpu, "seconds": seconds, "bytes": size * count * connections, "readers": kinds}


def main() -> None:
    library, loop, streams, *numbers = sys.argv[1:]
    if streams == "bytepool":
        import bytepool.streams

        bytepool.streams.install()
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        report = runner.run(run(library, *map(int, numbers)))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
