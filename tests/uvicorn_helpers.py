"""What the tests of ``bytepool.uvicorn`` share: servers, and a transport that a test drives."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from bytepool import Pool, asgi
from bytepool.uvicorn import Protocol, _timers

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    import pytest
    from starlette.requests import Request

PROTOCOLS: dict[str, Any] = {"stock": HttpToolsProtocol, "ours": Protocol}


def config(app: Any, http: Any = Protocol, **options: Any) -> uvicorn.Config:
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    options = {"lifespan": "off", "ws": "none", "log_config": None, **options}
    return uvicorn.Config(app, http=http, **options)


class Server:
    """A listening server, its address, and what uvicorn's own server would know of it."""

    def __init__(self, state: ServerState, address: tuple[str, int]) -> None:
        self.state = state
        self.address = address

    @property
    def url(self) -> str:
        return f"http://{self.address[0]}:{self.address[1]}"

    async def connect(self, **options: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*self.address, **options)


@contextlib.asynccontextmanager
async def serving(
    app: Any, http: Any = Protocol, *, tls: ssl.SSLContext | None = None, **options: Any
) -> AsyncIterator[Server]:
    """Serve the application on a free port of this event loop."""
    loaded = config(app, http, **options)
    loaded.load()
    state = ServerState()
    loop = asyncio.get_running_loop()

    def protocol() -> Any:
        return loaded.http_protocol_class(loaded, state, {}, loop)  # type: ignore[call-arg]

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    try:
        yield Server(state, server.sockets[0].getsockname())
    finally:
        server.close()
        if state.tasks:  # an application may have something to do after its response
            await asyncio.wait(state.tasks, timeout=0.2)
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()
        await asyncio.gather(*state.tasks, return_exceptions=True)
        await asyncio.sleep(0)


def post(body: bytes, *headers: str, path: str = "/", length: int | None = None) -> bytes:
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def response(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one response, with a Content-Length or chunked."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    fields = [line.lower().split(b": ") for line in head.split(b"\r\n")[1:-2]]
    headers = {field[0]: field[1] for field in fields}
    if status < 200:
        return status, b""
    if b"content-length" in headers:
        return status, await reader.readexactly(int(headers[b"content-length"]))
    body = b""
    while size := int(await reader.readline(), 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return status, body


async def answer(send: Callable[[Any], Awaitable[None]], body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, for ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class DrivenTransport(asyncio.Transport):
    """A transport whose reads a test decides on. It delivers nothing while it is paused."""

    def __init__(self, protocol: Any) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.protocol = protocol
        self.paused = False
        self.closing = False
        self.writes: list[bytes] = []
        protocol.connection_made(self)

    def deliver(self, data: bytes) -> bytes:
        """Deliver data, and return what the protocol does not take now."""
        while data and not self.paused and not self.closing:
            if isinstance(self.protocol, asyncio.BufferedProtocol):
                buffer: Any = self.protocol.get_buffer(-1)
                n = min(len(buffer), len(data))
                buffer[:n] = data[:n]
                del buffer
                self.protocol.buffer_updated(n)
            else:
                n = len(data)
                self.protocol.data_received(data)
            data = data[n:]
        return data

    def lose(self) -> None:
        if not self.closing:
            self.protocol.eof_received()
            self.close()

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def write(self, data: Any) -> None:
        if not self.closing:
            self.writes.append(bytes(data))

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol


def record_timers(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets the seconds of each timer that is started for a body."""
    timers: list[float] = []
    call_later = _timers.Timers._call_later

    def recorded(self: Any, seconds: float, call: Any) -> asyncio.TimerHandle:
        timers.append(seconds)
        return call_later(self, seconds, call)

    monkeypatch.setattr(_timers.Timers, "_call_later", recorded)
    return timers


def digest(*parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def application(pool: Pool) -> Starlette:
    async def body(request: Request) -> PlainTextResponse:
        return PlainTextResponse(digest(await request.body()))

    async def stream(request: Request) -> PlainTextResponse:
        return PlainTextResponse(digest(*[part async for part in request.stream()]))

    async def pooled(request: Request) -> PlainTextResponse:
        view = await asgi.body(request, pool=pool)
        assert isinstance(view, memoryview)
        return PlainTextResponse(digest(view))

    async def form(request: Request) -> PlainTextResponse:
        async with request.form() as form:
            file = form["file"]
            assert not isinstance(file, str)
            return PlainTextResponse(digest(await file.read()))

    routes = [body, stream, pooled, form]
    return Starlette(
        routes=[Route(f"/{route.__name__}", route, methods=["POST"]) for route in routes]
    )
