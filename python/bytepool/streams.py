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
import operator
import socket
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import bytepool

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = [
    "StreamReader",
    "StreamWriter",
    "open_connection",
    "start_server",
]

StreamWriter = asyncio.StreamWriter
_ClientConnected = Callable[[Any, StreamWriter], Awaitable[None] | None]

_LIMIT = 1 << 16  # asyncio's own default
# How much is read ahead while no target waits. It is copied once more on its way into a target, so
# a connection that asks for large messages gets the least; it doubles as long as reads fill it up.
_LEAST_AHEAD = 4 << 10
_MOST_AHEAD = 256 << 10
_LARGE = 64 << 10


_scratches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = (
    weakref.WeakKeyDictionary()
)


def _scratch(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Memory that all connections of a loop read ahead through; each empties it before the next."""
    try:
        return _scratches[loop]
    except KeyError:
        return _scratches.setdefault(loop, memoryview(bytearray(_MOST_AHEAD)))


_shared_pool: bytepool.Pool | None = None


def _default_pool() -> bytepool.Pool:
    global _shared_pool
    if _shared_pool is None:
        _shared_pool = bytepool.Pool()
    return _shared_pool


async def open_connection(
    host: Any = None,
    port: Any = None,
    *,
    limit: int = _LIMIT,
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
    limit: int = _LIMIT,
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
        limit: int = _LIMIT,
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
        limit: int = _LIMIT,
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
    return reader, _BufferedStreamProtocol(_StreamProtocol(reader, client_connected_cb, loop))


class StreamReader(asyncio.StreamReader):
    """``asyncio.StreamReader`` that can also receive straight into memory of yours or of a pool."""

    if TYPE_CHECKING:
        # What asyncio's class keeps to itself, and this one builds on: unchanged from CPython 3.11
        # to 3.13, and CPython's own tests are run on the result.
        _buffer: bytearray
        _eof: bool
        _exception: Exception | None
        _loop: asyncio.AbstractEventLoop
        _paused: bool
        _transport: asyncio.ReadTransport | None
        _waiter: asyncio.Future[None] | None

        async def _wait_for_data(self, func_name: str) -> None: ...
        def _wakeup_waiter(self) -> None: ...
        def _maybe_resume_transport(self) -> None: ...

    def __init__(
        self,
        limit: int = _LIMIT,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        pool: bytepool.Pool | None = None,
    ) -> None:
        super().__init__(limit, loop)
        self._pool = pool
        self._target: _Target | None = None
        self._ahead = 4 * _LEAST_AHEAD
        self._greedy = False

    async def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer`` completely, and return its size in bytes.

        ``buffer`` is anything writable and contiguous. It must not be used while this waits.

        Raises IncompleteReadError, which carries what came, if the stream ends before; TypeError
        for a buffer that is read-only or not contiguous. When this is cancelled, what had arrived
        is not lost: the next read gets it.
        """
        view = memoryview(buffer)
        if view.readonly:
            raise TypeError("readinto() needs a writable buffer, not a read-only one")
        size = view.nbytes
        if size:
            await self._fill(_Target(view.cast("B")), "readinto")
        return size

    async def readview(self, n: int, *, max_size: int | None = None) -> memoryview:
        """Return a memoryview of exactly ``n`` pooled bytes, filled from the stream.

        ``max_size`` is for lengths that a peer has sent: if ``n`` is above it, ValueError is raised
        before anything is allocated. Fresh memory costs the system nothing until it is written, so
        a peer that promises much and sends little is dear in address space only.

        Raises IncompleteReadError, which carries what came, if the stream ends before, and what
        ``Pool.view`` raises. When this is cancelled, what had arrived is not lost: the next read
        gets it.
        """
        n = operator.index(n)
        if max_size is not None and n > max_size:
            raise ValueError(f"a message of {n} bytes is above max_size ({max_size} bytes)")
        target = _Target((self._pool or _default_pool()).view(n))
        await self._fill(target, "readview")
        return target.view

    async def _fill(self, target: _Target, caller: str) -> None:
        """Fill the target from what was read ahead, and the rest straight from the socket.

        Once this has raised, the target does not hold its memory any more: errors live long.
        """
        size = len(target.view)
        try:
            if self._exception is not None:
                raise self._exception
            if self._waiter is not None and size > len(self._buffer):
                raise RuntimeError(
                    f"{caller}() called while another coroutine is "
                    "already waiting for incoming data"
                )
            if size >= _LARGE:
                self._ahead = _LEAST_AHEAD
            if size and self._buffer:
                del self._buffer[: target.feed(self._buffer)]
                self._maybe_resume_transport()
            if target.full:
                return
            self._target = target
            while not target.full:
                if self._eof:
                    raise asyncio.IncompleteReadError(target.take_back(), size)
                await self._wait_for_data(caller)
        except BaseException:
            # Cancelled, or the connection is broken: what came stays for the next read.
            self._buffer[:0] = target.take_back()
            raise
        finally:
            if self._target is target:
                self._target = None

    def set_exception(self, exc: Exception) -> None:
        """Note that the connection is broken."""
        # Its traceback holds the event loop's frame, which holds the target it was receiving into.
        super().set_exception(exc.with_traceback(None))

    def feed_data(self, data: Buffer) -> None:  # type: ignore[override]
        """Take data from the transport: into the target, and what is left to read later."""
        if self._target is not None and not self._eof:
            data = memoryview(data)[self._target.feed(data) :]
            self._settle_target()
        super().feed_data(data)  # type: ignore[arg-type]

    def _settle_target(self) -> None:
        """Wake its reader when the target is full. What comes next is not for this target."""
        if self._target is not None and self._target.full:
            self._target = None
            self._wakeup_waiter()
            if self._greedy:
                self._let_others_run()

    # The two halves of a read from the socket: the loop fills what the first returns, at once.

    def _get_buffer(self) -> memoryview:
        if self._target is not None:
            return self._target.view[self._target.filled :]
        return _scratch(self._loop)[: self._ahead]

    def _buffer_updated(self, nbytes: int) -> None:
        if self._target is not None:
            self._target.filled += nbytes
            self._settle_target()
            return
        super().feed_data(_scratch(self._loop)[:nbytes])
        if nbytes == self._ahead:
            self._ahead = min(2 * nbytes, _MOST_AHEAD)
            if self._greedy:
                self._let_others_run()

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport, to hold it back when too much comes."""
        super().set_transport(transport)
        # uvloop reads on as long as buffers are filled, before a task gets to name its next target.
        self._greedy = (
            type(transport).__module__.startswith("uvloop")
            and transport.get_extra_info("sslcontext") is None
        )

    def _let_others_run(self) -> None:
        """Read nothing more in this turn of the event loop."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()


class _Target:
    """Memory that a reader waits to see filled."""

    __slots__ = ("filled", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.filled = 0

    @property
    def full(self) -> bool:
        return self.filled == len(self.view)

    def feed(self, data: Buffer) -> int:
        """Copy what fits, and return how many bytes that was."""
        with memoryview(data) as source, source[: len(self.view) - self.filled] as chunk:
            self.view[self.filled : self.filled + len(chunk)] = chunk
            self.filled += len(chunk)
            return len(chunk)

    def take_back(self) -> bytes:
        """Give up the memory, and return a copy of what had come."""
        received = bytes(self.view[: self.filled])
        self.view, self.filled = memoryview(b""), 0
        return received


class _StreamProtocol(asyncio.StreamReaderProtocol):
    """asyncio's own protocol does all but receive: flow control, closing, callbacks."""

    if TYPE_CHECKING:
        _loop: asyncio.AbstractEventLoop

        @property
        def _stream_reader(self) -> StreamReader | None: ...

    # After start_tls() the transport must be told again that we receive into buffers. The method
    # was renamed in CPython 3.13.
    def _replace_transport(self, transport: asyncio.Transport) -> None:
        super()._replace_transport(transport)  # type: ignore[misc]
        transport.set_protocol(_BufferedStreamProtocol(self))

    def _replace_writer(self, writer: StreamWriter) -> None:
        super()._replace_writer(writer)  # type: ignore[misc]
        writer.transport.set_protocol(_BufferedStreamProtocol(self))


class _BufferedStreamProtocol(asyncio.BufferedProtocol):
    """What the transport sees.

    It must not inherit from asyncio.Protocol: uvloop would not take it for a buffered one.
    """

    __slots__ = ("inner",)

    def __init__(self, inner: _StreamProtocol) -> None:
        self.inner = inner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.inner.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def eof_received(self) -> bool | None:
        return self.inner.eof_received()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        reader = self.inner._stream_reader
        if reader is None:
            return _scratch(self.inner._loop)
        return reader._get_buffer()

    def buffer_updated(self, nbytes: int) -> None:
        reader = self.inner._stream_reader
        if reader is not None:
            reader._buffer_updated(nbytes)
