"""The protocol of a connection, which the event loop calls."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from bytepool.uvicorn._http import HttpConnection

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState


# For headers: the part of a large body that comes with them has to be copied.
_SMALL = 16 << 10


class _Scratch(threading.local):
    """Memory for the parser's input. An event loop fills and parses it in one step."""

    def __init__(self) -> None:
        self.large = memoryview(bytearray(64 << 10))
        self.small = self.large[:_SMALL]


_scratch = _Scratch()


class Protocol(asyncio.BufferedProtocol):
    """uvicorn's HTTP protocol with httptools, which receives large request bodies in place.

    Name it on the command line: ``uvicorn --http bytepool.uvicorn:Protocol``, or give it to
    ``uvicorn.Config(http=...)``. To change a class attribute, inherit from it.
    """

    # It is no asyncio.Protocol, which event loops would not let receive into buffers.

    #: A client that sends nothing for so many seconds while its body is awaited is disconnected.
    #: None waits for ever, as uvicorn does.
    stall_timeout: ClassVar[float | None] = HttpConnection.stall_timeout

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._http = HttpConnection(config, server_state, app_state, _loop)
        # CPython reads attributes fast of objects that have 30 at most. uvicorn's class has 28.
        if self.stall_timeout != self._http.stall_timeout:
            self._http.stall_timeout = self.stall_timeout
        self._scratch = _scratch.small
        self._tls = False
        # Extra memory, if the transport had more bytes than the buffer could take.
        self._spare: memoryview | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin a connection."""
        self._tls = transport.get_extra_info("sslcontext") is not None
        self._http.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        """End the connection."""
        self._http.connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the transport is to receive to."""
        body = self._http.body
        if body is None:
            buffer = self._scratch
            if not self._tls:
                return buffer
        else:
            target = body.get_buffer()
            buffer = _scratch.large[: body.coming] if target is None else target
        if self._tls and sizehint > len(buffer):
            # All that can be decrypted must be read at once: when the peer has closed, asyncio and
            # uvloop fill one more buffer, and drop the rest.
            self._spare = buffer = memoryview(bytearray(sizehint))
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what the transport has received."""
        http = self._http
        if self._spare is not None:
            data, self._spare = self._spare[:nbytes], None
            http.feed(data)
        elif http.body is None:
            scratch = self._scratch
            http.data_received(scratch[:nbytes])  # type: ignore[arg-type]
            size = len(scratch)
            if http.body is not None:
                http.settle()
            elif nbytes == size:
                self._scratch = _scratch.large
                return
            if size > _SMALL:
                self._scratch = _scratch.small
        else:
            http.received(nbytes)

    def data_received(self, data: bytes) -> None:
        """Take data from a transport that does not receive into buffers."""
        self._http.feed(memoryview(data))

    def eof_received(self) -> None:
        """Note that the client sends nothing more. The transport then closes itself."""
        self._http.eof_received()

    def pause_writing(self) -> None:
        """Hold the response back."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """Let the response go on."""
        self._http.resume_writing()
