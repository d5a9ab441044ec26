"""asyncio's streams, which receive large reads straight into their result.

Import ``open_connection`` and ``start_server`` from here instead of from asyncio, or call
``install()``, and existing code goes on as before, at less cost. New are
``StreamReader.readview(n)``, which returns pooled memory, ``StreamReader.readinto(buffer)``, which
fills memory of yours, and ``StreamReader.frames()`` with ``write_frame()`` for length-prefixed
messages. All work on asyncio's event loops and on uvloop, plain and with TLS.

An idle connection holds no buffer.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

from bytepool.streams._frames import write_frame
from bytepool.streams._protocol import StreamReaderProtocol, StreamWriter
from bytepool.streams._reader import LIMIT, StreamReader

if TYPE_CHECKING:
    import bytepool
    from bytepool.streams._protocol import ClientConnected

__all__ = [
    "StreamReader",
    "StreamReaderProtocol",
    "StreamWriter",
    "install",
    "open_connection",
    "start_server",
    "write_frame",
]


async def open_connection(
    host: Any = None,
    port: Any = None,
    *,
    limit: int = LIMIT,
    pool: bytepool.Pool | None = None,
    stall_timeout: float | None = None,
    **kwds: Any,
) -> tuple[StreamReader, StreamWriter]:
    """Do what ``asyncio.open_connection`` does, with two parameters more.

    Args:
        pool: where ``readview`` and ``frames`` take memory; None is ``bytepool.default_pool()``.
        stall_timeout: a read of 64 KiB or more for which the peer sends nothing in so many seconds
            raises TimeoutError, and the connection is aborted. None lets it wait.
    """
    loop = asyncio.get_running_loop()
    reader, protocol = _pair(limit, loop, pool, stall_timeout)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = LIMIT,
    pool: bytepool.Pool | None = None,
    stall_timeout: float | None = None,
    **kwds: Any,
) -> asyncio.Server:
    """Do what ``asyncio.start_server`` does, with ``pool`` and ``stall_timeout``.

    See ``open_connection`` for what they are.
    """
    loop = asyncio.get_running_loop()

    def factory() -> StreamReaderProtocol:
        return _pair(limit, loop, pool, stall_timeout, client_connected_cb)[1]

    return await loop.create_server(factory, host, port, **kwds)


if hasattr(socket, "AF_UNIX"):
    __all__ += ["open_unix_connection", "start_unix_server"]

    async def open_unix_connection(
        path: Any = None,
        *,
        limit: int = LIMIT,
        pool: bytepool.Pool | None = None,
        stall_timeout: float | None = None,
        **kwds: Any,
    ) -> tuple[StreamReader, StreamWriter]:
        """Do what ``open_connection`` does, for unix sockets."""
        loop = asyncio.get_running_loop()
        reader, protocol = _pair(limit, loop, pool, stall_timeout)
        transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
        return reader, StreamWriter(transport, protocol, reader, loop)

    async def start_unix_server(
        client_connected_cb: ClientConnected,
        path: Any = None,
        *,
        limit: int = LIMIT,
        pool: bytepool.Pool | None = None,
        stall_timeout: float | None = None,
        **kwds: Any,
    ) -> asyncio.Server:
        """Do what ``start_server`` does, for unix sockets."""
        loop = asyncio.get_running_loop()

        def factory() -> StreamReaderProtocol:
            return _pair(limit, loop, pool, stall_timeout, client_connected_cb)[1]

        return await loop.create_unix_server(factory, path, **kwds)


def _pair(
    limit: int,
    loop: asyncio.AbstractEventLoop,
    pool: bytepool.Pool | None,
    stall_timeout: float | None = None,
    client_connected_cb: ClientConnected | None = None,
) -> tuple[StreamReader, StreamReaderProtocol]:
    reader = StreamReader(limit, loop, pool=pool, stall_timeout=stall_timeout)
    return reader, StreamReaderProtocol(reader, client_connected_cb, loop)


from bytepool.streams._install import install  # noqa: E402  (it needs the functions above)
