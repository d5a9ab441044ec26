"""The protocol between a transport and a stream reader: closing, flow control, callbacks."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from bytepool.streams._errors import copy_error
from bytepool.streams._reader import StreamReader

if TYPE_CHECKING:
    import ssl

ClientConnected: TypeAlias = Callable[[StreamReader, "StreamWriter"], Awaitable[None] | None]


class StreamWriter(asyncio.StreamWriter):
    """``asyncio.StreamWriter`` whose errors keep no message, see ``_errors.py``."""

    _transport: asyncio.BaseTransport
    _protocol: StreamReaderProtocol
    _reader: StreamReader | None
    _loop: asyncio.AbstractEventLoop

    async def drain(self) -> None:
        """Wait until the transport takes more; raise what the connection broke with."""
        # As asyncio's, but for the copy.
        error = None if self._reader is None else self._reader.exception()
        if error is not None:
            raise copy_error(error)
        if self._transport.is_closing():
            await asyncio.sleep(0)  # for connection_lost() to be called
        await self._protocol._drain_helper()

    async def start_tls(
        self, sslcontext: ssl.SSLContext, *, server_hostname: str | None = None, **options: Any
    ) -> None:
        """Do what asyncio's does. ``options`` are more arguments of ``loop.start_tls``.

        Bytes that a client sent right behind its request belong to TLS and are not lost: for
        instance the hello behind a line of the PROXY protocol.
        """
        protocol, reader = self._protocol, self._reader
        options = {"ssl_handshake_timeout": None, "ssl_shutdown_timeout": None} | options
        is_server = protocol._client_connected_cb is not None
        await self.drain()
        upgrade: asyncio.Task[asyncio.BaseTransport | None] = self._loop.create_task(
            self._loop.start_tls(
                self._transport,  # type: ignore[arg-type]
                protocol,
                sslcontext,
                server_side=is_server,
                server_hostname=server_hostname,
                **options,
            )
        )
        try:
            if is_server and reader is not None and reader._unread:
                await asyncio.sleep(0)  # the upgrade has begun, and its protocol starts next
                hello = bytes(reader._buffer)
                reader._buffer.clear()
                self._loop.call_soon(_receive, self._transport, hello)
            transport = await upgrade
        except BaseException:
            upgrade.cancel()
            raise
        assert transport is not None
        self._transport = transport
        protocol._replace_writer(self)


def _receive(transport: Any, data: bytes) -> None:
    """Give data to a transport's protocol as if it had arrived now."""
    while data and not transport.is_closing():
        protocol: Any = transport.get_protocol()
        buffer = protocol.get_buffer(len(data))
        n = min(len(buffer), len(data))
        buffer[:n] = data[:n]
        protocol.buffer_updated(n)
        data = data[n:]


def _no_reader() -> None:
    """Stand for a reader that is gone."""


# For a transport that goes on receiving when the reader is gone.
_NOWHERE = bytearray(64 << 10)


class StreamReaderProtocol(asyncio.BufferedProtocol):
    """``asyncio.StreamReaderProtocol`` whose transport receives into memory of the reader.

    It is no ``asyncio.Protocol``, which event loops would not let receive into buffers.
    """

    _source_traceback = None

    def __init__(
        self,
        stream_reader: StreamReader | None,
        client_connected_cb: ClientConnected | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = asyncio.get_event_loop() if loop is None else loop
        self._paused = False
        self._drain_waiters: deque[asyncio.Future[None]] = deque()
        self._connection_lost = False
        # A reader that nobody else refers to is not kept, but for a server's until it is connected.
        self._reader_reference: Callable[[], StreamReader | None] = _no_reader
        self._strong_reader: StreamReader | None = None
        if stream_reader is not None:
            self._reader_reference = weakref.ref(stream_reader)
            self._source_traceback = stream_reader._source_traceback
            if client_connected_cb is not None:
                self._strong_reader = stream_reader
        self._reject_connection = False
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._client_connected_cb = client_connected_cb
        self._over_ssl = False
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._close_waiters: list[asyncio.Future[None]] = []

    @property
    def _stream_reader(self) -> StreamReader | None:
        return self._reader_reference()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport, and call a server's callback."""
        if self._reject_connection:
            context: dict[str, Any] = {
                "message": "An open stream was garbage collected prior to "
                'establishing network connection; call "stream.close()" explicitly.'
            }
            if self._source_traceback:
                context["source_traceback"] = self._source_traceback
            self._loop.call_exception_handler(context)
            transport.abort()  # type: ignore[attr-defined]
            return
        self._transport = transport
        reader = self._stream_reader
        if reader is not None:
            reader.set_transport(transport)
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        if self._client_connected_cb is not None:
            writer = StreamWriter(transport, self, reader, self._loop)  # type: ignore[arg-type]
            try:
                result = self._client_connected_cb(reader, writer)  # type: ignore[arg-type]
            except Exception as error:
                self._report(error)
            else:
                if asyncio.iscoroutine(result):
                    self._task = self._loop.create_task(result)
                    self._task.add_done_callback(self._handled)
            self._strong_reader = None

    def _handled(self, task: asyncio.Task[None]) -> None:
        """Close the transport if the handler has failed."""
        # An error of the handler's holds its messages: it is not kept.
        self._task = None
        if task.cancelled():
            if self._transport is not None:
                self._transport.close()
            return
        error = task.exception()
        if error is not None:
            self._report(error)

    def _report(self, error: BaseException) -> None:
        """Report an error of the server's callback, and close the transport."""
        context = {
            "message": "Unhandled exception in client_connected_cb",
            "exception": error,
            "transport": self._transport,
        }
        self._loop.call_exception_handler(context)
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the reader, and wake all tasks in ``drain`` and ``wait_closed``."""
        reader = self._stream_reader
        if reader is not None:
            if exc is None:
                reader.feed_eof()
            else:
                reader.set_exception(exc)
        if not self._closed.done():
            if exc is None:
                self._closed.set_result(None)
            else:
                self._closed.set_exception(copy_error(exc))
        for waiter in self._close_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._connection_lost = True
        if self._paused:
            for waiter in self._drain_waiters:
                if waiter.done():
                    continue
                if exc is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(copy_error(exc))
        self._reader_reference = _no_reader
        self._task = None
        self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the transport is to receive to."""
        reader = self._reader_reference()
        if reader is None:
            return memoryview(_NOWHERE)
        # With TLS the hint says how much there is to decrypt. All of it must be read immediately:
        # when the peer has closed, asyncio and uvloop fill one more buffer, and drop the rest.
        return reader._get_buffer(sizehint if sizehint > 0 and self._is_behind_tls() else 0)

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the transport has received."""
        reader = self._reader_reference()
        if reader is not None:
            reader._buffer_updated(nbytes)

    def data_received(self, data: bytes) -> None:
        """Take data from a transport that does not receive into buffers."""
        reader = self._reader_reference()
        if reader is not None:
            reader.feed_data(data)

    def eof_received(self) -> bool:
        """Tell the reader that nothing more will come. The transport stays open without TLS."""
        reader = self._reader_reference()
        if reader is not None:
            reader.feed_eof()
        return not self._over_ssl

    def pause_writing(self) -> None:
        """Have ``drain`` wait."""
        assert not self._paused
        self._paused = True

    def resume_writing(self) -> None:
        """Wake the tasks in ``drain``."""
        assert self._paused
        self._paused = False
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _is_behind_tls(self) -> bool:
        """Whether somebody decrypts what this gets: ``start_tls`` may have been called by hand."""
        if self._over_ssl:
            return True
        get_protocol = getattr(self._transport, "get_protocol", None)
        return get_protocol is not None and get_protocol() is not self

    # Called by asyncio's StreamWriter.

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

    async def _get_close_waiter(self, _stream: asyncio.StreamWriter) -> None:
        if not self._closed.done():
            # A cancelled wait must not cancel what others wait for.
            waiter = self._loop.create_future()
            self._close_waiters.append(waiter)
            await waiter
        error = None if self._closed.cancelled() else self._closed.exception()
        if isinstance(error, Exception):
            raise copy_error(error)

    def _replace_transport(self, transport: asyncio.Transport) -> None:
        """Go on with a transport that decrypts, after ``start_tls``."""
        self._transport = transport
        self._over_ssl = transport.get_extra_info("sslcontext") is not None
        reader = self._stream_reader
        if reader is not None:
            reader._replace_transport(transport)

    # CPython 3.13 and later call it the one, and earlier ones the other.
    def _replace_writer(self, writer: asyncio.StreamWriter) -> None:
        self._replace_transport(writer.transport)  # type: ignore[arg-type]

    def __del__(self) -> None:
        # asyncio must not report an error that nobody has asked for when the future is freed.
        closed = getattr(self, "_closed", None)
        if closed is not None and closed.done() and not closed.cancelled():
            closed.exception()
