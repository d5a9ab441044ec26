"""uvicorn's httptools protocol, which hands the large bodies of its requests over."""

from __future__ import annotations

import os
import weakref
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bytepool.uvicorn._body import IncomingBody
from bytepool.uvicorn._output import Output

if TYPE_CHECKING:
    import asyncio

# A smaller body gains little or nothing, and is left to uvicorn. See benches/http_uploads.py.
LARGE = 128 << 10
LARGE_DIGITS = len(str(LARGE))

# Where the transports are from that keep no bytes: what they have not delivered, the socket has.
UNBUFFERED = ("asyncio.selector_events", "uvloop.loop")

_on_headers_complete = HttpToolsProtocol.on_headers_complete
_on_response_complete = HttpToolsProtocol.on_response_complete


class _Flow(FlowControl):
    """Resumes reading only if the body has space for more, and measures how long it reads.

    An application that waits for a disconnect resumes reading each time, and so would have a
    pipelined upload received that nobody reads yet.
    """

    def __init__(self, transport: asyncio.Transport, http: HttpConnection) -> None:
        super().__init__(transport)
        # Weak, so that a closed connection is freed without the garbage collector.
        self._http = weakref.ref(http)
        self._paused_at = self._paused_seconds = 0.0
        self._fd = -1
        is_known = type(transport).__module__ in UNBUFFERED and hasattr(os, "readv")
        if is_known and transport.get_extra_info("sslcontext") is None:
            self._fd = transport.get_extra_info("socket").fileno()

    def read_into(self, buffer: memoryview) -> int:
        """Read what the socket has, without the event loop, and return how many bytes that is.

        0 means that the event loop has to wait for more. It also sees the end, and errors.
        """
        # The number of a closed socket may belong to another one.
        if self._fd < 0 or self._transport.is_closing():
            return 0
        try:
            return os.readv(self._fd, (buffer,))
        except OSError:
            return 0

    @property
    def reading_seconds(self) -> float:
        """A clock that stops while the transport does not read."""
        now = self._paused_at if self.read_paused else monotonic()
        return now - self._paused_seconds

    def pause_reading(self) -> None:
        """Have the transport read no more."""
        if not self.read_paused:
            self._paused_at = monotonic()
            super().pause_reading()

    def resume_reading(self) -> None:
        """Let the transport read."""
        if self.read_paused:
            http = self._http()
            if http is None or http.body is None or not http.body.is_full:
                self._paused_seconds += monotonic() - self._paused_at
                super().resume_reading()


class _Discard:
    """What parses after the last request of a connection: as httptools does, it drops all."""

    def feed_data(self, data: object) -> None:
        """Drop the data."""


class HttpConnection(HttpToolsProtocol):
    """One connection. ``body`` is the large body that the transport delivers now, if any."""

    flow: _Flow
    body: IncomingBody | None = None
    stall_timeout: float | None = 60.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection."""
        # Callbacks of the event loop get this context, and not the one of a request.
        self.context = copy_context()
        super().connection_made(transport)
        self.flow = _Flow(transport, self)
        self.transport = Output(transport, self.loop)  # type: ignore[assignment]

    def on_headers_complete(self) -> None:
        """Start the application, for a large body with a ``receive`` of ours."""
        size = 0
        for name, value in self.headers:
            if name == b"content-length" and len(value) >= LARGE_DIGITS:
                size = int(value)
        if size < LARGE or self.parser.should_upgrade():
            _on_headers_complete(self)
            return
        if self.body is not None:
            self.settle()
        app = self.app
        body = self.body = IncomingBody(self, size, self.stall_timeout)
        self.app = body.serve
        try:
            _on_headers_complete(self)
        except BaseException:
            body.end()
            self.body = None
            raise
        finally:
            self.app = app
        if self.cycle.response_complete:
            # With eager tasks, the application may be done by now. The parser drops the body.
            body.end()
            self.body = None
            return
        body.begin(self.cycle)
        # The transport goes on when the application asks for the body. With eager tasks, it has.
        if not body.waiting:
            self.flow.pause_reading()

    def settle(self) -> None:
        """Take what the parser got of the body together with its headers."""
        assert self.body is not None
        self.body.take_early()
        if not self.body.coming:
            self.body.end()
            self.body = None

    def on_body_received(self) -> None:
        """Parse the next request: the parser has not seen the end of the body."""
        assert self.body is not None
        self.body.end()
        self.body = None
        if not self.cycle.response_complete:
            # A client that half-closes its connection gets the answer: its end is read after that,
            # or when the application receives again.
            self.flow.pause_reading()
        if not self.parser.should_keep_alive():
            self.parser = _Discard()  # type: ignore[assignment]
            return
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does

    def feed(self, data: memoryview) -> None:
        """Take data from a transport that did not receive it to where it was told."""
        while len(data):
            if self.body is None:
                self.data_received(data)  # type: ignore[arg-type]  # httptools takes any buffer
                if self.body is not None:
                    self.settle()
                return
            target = self.body.get_buffer()
            n = min(self.body.coming, len(data))
            if target is not None:
                n = min(n, len(target))
                target[:n] = data[:n]
                del target
            self.received(n)
            data = data[n:]

    def received(self, n: int) -> None:
        """Note that the transport has received ``n`` bytes of the body."""
        assert self.body is not None
        self._unset_keepalive_if_required()  # as uvicorn does, if the response came early
        self.body.buffer_updated(n)
        if not self.body.coming:
            self.on_body_received()

    def on_response_complete(self) -> None:
        """Go on with the next request, after all of the response is written."""
        if isinstance(self.transport, Output):
            self.transport.flush()
        _on_response_complete(self)

    def eof_received(self) -> None:
        """Write the head that waits, because the transport closes itself after this."""
        if isinstance(self.transport, Output):
            self.transport.flush()
        super().eof_received()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over to the protocol for WebSockets."""
        if isinstance(self.transport, Output):
            self.transport = self.transport.take_transport()
        super().handle_websocket_upgrade()
        # uvloop looks what kind of protocol it has to receive for when reading starts.
        self.transport.pause_reading()
        self.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the application, after the received part of its body."""
        if self.body is not None:
            self.body.lose()
            self.body = None
        super().connection_lost(exc)
