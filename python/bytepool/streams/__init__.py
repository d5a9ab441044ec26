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
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, cast

from bytepool.streams._reader import LIMIT, StreamReader, copy_error, scratch

if TYPE_CHECKING:
    from collections import deque

    import bytepool

__all__ = [
    "StreamReader",
    "StreamWriter",
    "install",
    "open_connection",
    "start_server",
]

StreamWriter = asyncio.StreamWriter
_ClientConnected = Callable[[StreamReader, StreamWriter], Awaitable[None] | None]


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
    return reader, StreamWriter(transport, protocol.inner, reader, loop)


async def start_server(
    client_connected_cb: _ClientConnected,
    host: Any = None,
    port: Any = None,
    *,
    limit: int = LIMIT,
    pool: bytepool.Pool | None = None,
    **kwds: Any,
) -> asyncio.Server:
    """``asyncio.start_server`` with ``pool=``, as for ``open_connection``."""
    loop = asyncio.get_running_loop()

    def factory() -> _BufferedStreamProtocol:
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
        return reader, StreamWriter(transport, protocol.inner, reader, loop)

    async def start_unix_server(
        client_connected_cb: _ClientConnected,
        path: Any = None,
        *,
        limit: int = LIMIT,
        pool: bytepool.Pool | None = None,
        **kwds: Any,
    ) -> asyncio.Server:
        """``start_server`` for unix sockets."""
        loop = asyncio.get_running_loop()

        def factory() -> _BufferedStreamProtocol:
            return _pair(limit, loop, pool, client_connected_cb)[1]

        return await loop.create_unix_server(factory, path, **kwds)


def _pair(
    limit: int,
    loop: asyncio.AbstractEventLoop,
    pool: bytepool.Pool | None,
    client_connected_cb: _ClientConnected | None = None,
) -> tuple[StreamReader, _BufferedStreamProtocol]:
    reader = StreamReader(limit, loop, pool=pool)
    # asyncio calls it with this reader, but declares that it may be any asyncio.StreamReader.
    callback = cast("Any", client_connected_cb)
    return reader, _BufferedStreamProtocol(_StreamProtocol(reader, callback, loop))


class _StreamProtocol(asyncio.StreamReaderProtocol):
    """asyncio's own protocol does all but receive: flow control, closing, callbacks."""

    if TYPE_CHECKING:
        _closed: asyncio.Future[None]
        _connection_lost: bool
        _drain_waiters: deque[asyncio.Future[None]]
        _loop: asyncio.AbstractEventLoop
        _paused: bool
        _task: asyncio.Task[None] | None

        @property
        def _stream_reader(self) -> StreamReader | None: ...

    # After start_tls() the transport must be told again that we receive into buffers. The method
    # was renamed in CPython 3.13.
    def _replace_transport(self, transport: asyncio.Transport) -> None:
        super()._replace_transport(transport)  # type: ignore[misc]
        transport.set_protocol(_BufferedStreamProtocol(self, tls=True))

    def _replace_writer(self, writer: StreamWriter) -> None:
        super()._replace_writer(writer)  # type: ignore[misc]
        writer.transport.set_protocol(_BufferedStreamProtocol(self, tls=True))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._task is not None:
            self._task.add_done_callback(self._forget)

    def _forget(self, _task: asyncio.Task[None]) -> None:
        """Hold no error of the handler's, whose traceback holds the handler's messages and this."""
        self._task = None

    # For the same reason, what is raised is not what futures keep.

    def connection_lost(self, exc: Exception | None) -> None:
        for waiter in self._drain_waiters:
            if exc is not None and not waiter.done():
                waiter.set_exception(copy_error(exc))
        super().connection_lost(exc)

    async def _drain_helper(self) -> None:
        if self._connection_lost:
            raise ConnectionResetError("Connection lost")
        if not self._paused:
            return
        waiter = self._loop.create_future()
        self._drain_waiters.append(waiter)
        try:
            await waiter
        finally:
            self._drain_waiters.remove(waiter)
            del waiter

    async def _get_close_waiter(self, _stream: StreamWriter) -> None:
        await asyncio.wait([self._closed])
        error = None if self._closed.cancelled() else self._closed.exception()
        if isinstance(error, Exception):
            raise copy_error(error)


class _BufferedStreamProtocol(asyncio.BufferedProtocol):
    """What the transport sees.

    It must not inherit from asyncio.Protocol: uvloop would not take it for a buffered one.
    """

    __slots__ = ("inner", "tls")

    def __init__(self, inner: _StreamProtocol, *, tls: bool = False) -> None:
        self.inner = inner
        self.tls = tls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.tls = transport.get_extra_info("sslcontext") is not None
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def get_buffer(self, sizehint: int) -> memoryview:
        reader = self.inner._stream_reader
        if reader is None:
            return scratch(self.inner._loop)
        # With TLS the hint says how much there is to decrypt. All of it must be read at once:
        # when the peer has closed, asyncio and uvloop fill one more buffer, and drop what is left.
        return reader._get_buffer(sizehint if self.tls else 0)

    def buffer_updated(self, nbytes: int) -> None:
        reader = self.inner._stream_reader
        if reader is not None:
            reader._buffer_updated(nbytes)


from bytepool.streams._install import install  # noqa: E402  (it needs the functions above)
