"""asyncio's streams, with a pool under them.

Import ``open_connection`` and ``start_server`` from here instead of from asyncio, and existing code
goes on as before. New are ``StreamReader.readinto(buffer)`` and ``StreamReader.readview(n)``: while
one of them waits, the socket is received straight into its target, without a copy in between. They
work on asyncio's event loops and on uvloop, plain and with TLS.

An idle connection holds no buffer: what arrives while no target waits goes through one scratch
buffer that all connections of an event loop share.
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
    **kwds: Any,
) -> tuple[StreamReader, StreamWriter]:
    """``asyncio.open_connection`` with ``pool=``, where the reader's ``readview`` takes its memory.

    Without ``pool`` that is a ``bytepool.Pool()`` which all such connections of the process share.
    """
    loop = asyncio.get_running_loop()
    reader, protocol = _pair(limit, loop, pool)
    transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwds)
    return reader, StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = LIMIT,
    pool: bytepool.Pool | None = None,
    **kwds: Any,
) -> asyncio.Server:
    """``asyncio.start_server`` with ``pool=``, as for ``open_connection``."""
    loop = asyncio.get_running_loop()

    def factory() -> StreamReaderProtocol:
        return _pair(limit, loop, pool, client_connected_cb)[1]

    return await loop.create_server(factory, host, port, **kwds)


if hasattr(socket, "AF_UNIX"):
    __all__ += ["open_unix_connection", "start_unix_server"]

    async def open_unix_connection(
        path: Any = None,
        *,
        limit: int = LIMIT,
        pool: bytepool.Pool | None = None,
        **kwds: Any,
    ) -> tuple[StreamReader, StreamWriter]:
        """``open_connection`` for unix sockets."""
        loop = asyncio.get_running_loop()
        reader, protocol = _pair(limit, loop, pool)
        transport, _ = await loop.create_unix_connection(lambda: protocol, path, **kwds)
        return reader, StreamWriter(transport, protocol, reader, loop)

    async def start_unix_server(
        client_connected_cb: ClientConnected,
        path: Any = None,
        *,
        limit: int = LIMIT,
        pool: bytepool.Pool | None = None,
        **kwds: Any,
    ) -> asyncio.Server:
        """``start_server`` for unix sockets."""
        loop = asyncio.get_running_loop()

        def factory() -> StreamReaderProtocol:
            return _pair(limit, loop, pool, client_connected_cb)[1]

        return await loop.create_unix_server(factory, path, **kwds)


def _pair(
    limit: int,
    loop: asyncio.AbstractEventLoop,
    pool: bytepool.Pool | None,
    client_connected_cb: ClientConnected | None = None,
) -> tuple[StreamReader, StreamReaderProtocol]:
    reader = StreamReader(limit, loop, pool=pool)
    return reader, StreamReaderProtocol(reader, client_connected_cb, loop)


from bytepool.streams._install import install  # noqa: E402  (it needs the functions above)
