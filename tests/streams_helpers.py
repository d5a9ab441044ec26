"""What the tests of ``bytepool.streams`` share."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import trustme
import uvloop

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
    from pathlib import Path

    Handler = Callable[[streams.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def run_fixture() -> Any:
    """Make a fixture that runs a coroutine on one of the event loops, for half a minute at most."""

    @pytest.fixture(params=LOOPS)
    def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
        def run(main: Coroutine[Any, Any, Any]) -> Any:
            with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
                return runner.run(asyncio.wait_for(main, 30))

        return run

    return run


def receive(reader: streams.StreamReader, data: bytes) -> None:
    """Do what a transport does with a buffered protocol."""
    while data:
        buffer = reader._get_buffer()
        chunk = data[: len(buffer)]
        buffer[: len(chunk)] = chunk
        del buffer
        reader._buffer_updated(len(chunk))
        data = data[len(chunk) :]


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
