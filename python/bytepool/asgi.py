"""Request bodies in pooled memory, on any ASGI server.

``body()`` returns a whole body as a memoryview of pooled bytes. ``Body`` reads a body part by part,
into pooled memory or into memory of yours. Every ASGI server hands a body over in chunks of
``bytes``, and each chunk is copied once. On ``bytepool.uvicorn.Protocol`` nothing is copied.

In a plain ASGI application:

    async def app(scope, receive, send):
        image = await asgi.body(scope, receive, max_size=64 << 20)

With Starlette and FastAPI, give the request: ``await asgi.body(request)``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import bytepool
from bytepool._budget import view_async
from bytepool._bytepool import expect_large_blocks
from bytepool._frames import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from typing_extensions import Buffer

    from bytepool import Pool

__all__ = ["Body", "BodyTooLargeError", "ClientDisconnectedError", "body"]

# From this size on, our server receives straight into memory of the application.
_IN_PLACE = 64 << 10
# The first buffer for a body of unknown size. It is doubled when it is full.
_FIRST = 64 << 10


class BodyTooLargeError(ValueError):
    """The body is larger than ``max_size``. The answer to this is status 413.

    If the body was asked for with a Starlette request, this is also a ``starlette.HTTPException``
    of that status, so Starlette and FastAPI answer by themselves.
    """

    status_code = 413


class ClientDisconnectedError(ConnectionError):
    """The client disconnected before the end of its body."""


class Body:
    """The body of one request, to be read part by part.

    Args:
        request: a request of Starlette or FastAPI, or the ``scope`` of an ASGI application.
        receive: the application's ``receive``; only with a scope.
        max_size: the largest body in bytes. If Content-Length is above it, this raises
            BodyTooLargeError; a body without Content-Length raises it as soon as it is larger.
        pool: where ``readview`` takes memory; None is ``bytepool.default_pool()``.

    Read a body in one way only, and in one task.
    """

    def __init__(
        self,
        request: Any,
        receive: Callable[[], Awaitable[MutableMapping[str, Any]]] | None = None,
        *,
        max_size: int = MAX_SIZE,
        pool: Pool | None = None,
    ) -> None:
        self._request = None if receive is not None else request
        scope = request if self._request is None else request.scope
        self._receive = receive or request.receive
        self._pool = pool
        self._max_size = max_size
        self._size = _content_length(scope)
        self._received = 0
        self._ended = False
        self._reading = False
        # Received bytes that were not read yet.
        self._rest = memoryview(b"")
        # On our server: the body that is received in place. A middleware with a ``receive`` of its
        # own may keep messages back, or use them later, so it gets bytes.
        incoming = (scope.get("extensions") or {}).get("bytepool")
        is_direct = getattr(self._receive, "__self__", None) is incoming
        self._incoming = incoming if is_direct else None
        if self._size is not None and self._size > max_size:
            raise self._too_large(self._size)
        if self._request is not None:
            self._look_at_request()

    @property
    def size(self) -> int | None:
        """The Content-Length of the request in bytes; None if it has none."""
        return self._size

    async def readinto(self, buffer: Buffer) -> int:
        """Fill ``buffer`` with the next bytes of the body, and return how many these are.

        They are fewer than the buffer has only if the body ends; 0 means that it has ended.
        ``buffer`` is anything writable and contiguous. Do not use it while this waits.

        Raises ClientDisconnectedError (with a Starlette request: its ClientDisconnect) if the
        client disconnects before the end; BodyTooLargeError; TypeError for a buffer that is
        read-only or not contiguous; RuntimeError while another call waits. If this is cancelled, no
        byte is lost: the next call gets the received bytes.
        """
        self._check_is_idle()
        view = memoryview(buffer)
        if view.readonly or not view.c_contiguous:
            raise TypeError("a buffer is needed that is writable and contiguous")
        view = view.cast("B")
        filled = 0
        while filled < len(view):
            if not len(self._rest):
                if self._ended:
                    break
                self._reading = True
                try:
                    filled += await self._receive_into(view[filled:])
                except BaseException:
                    self._rest = memoryview(view[:filled].tobytes())
                    del view, buffer  # or the error would keep the memory
                    raise
                finally:
                    self._reading = False
            n = min(len(self._rest), len(view) - filled)
            if n:
                view[filled : filled + n] = self._rest[:n]
                self._rest = self._rest[n:]
                filled += n
        return filled

    async def readview(self, n: int) -> memoryview:
        """Return the next ``n`` bytes of the body as a memoryview of pooled bytes.

        They are fewer only if the body ends; an empty memoryview means that it has ended. If the
        pool has a budget (``max_bytes``) that is used up, this waits in line.

        Raises what ``readinto`` and ``Pool.allocate_async`` raise.
        """
        self._check_is_idle()
        if self._size is not None:
            n = min(n, max(0, self._size - self._received) + len(self._rest))
        view = await _lend(self._pool or bytepool.default_pool(), n)
        try:
            filled = await self.readinto(view)
        except BaseException:
            del view  # or the error would keep the memory
            raise
        return view if filled == n else view[:filled]

    def _check_is_idle(self) -> None:
        if self._reading:
            raise RuntimeError("another call waits for bytes of this body")

    async def _receive_into(self, view: memoryview) -> int:
        """Receive a message: into the view, which returns how much, or into ``self._rest``."""
        part = None
        incoming: Any = self._incoming
        if incoming is not None:
            left = incoming.left
            n = min(len(view), left)
            if n >= _IN_PLACE or (n and n == left):
                part = view[:n]
        del view
        data: bytes | memoryview = b""
        try:
            message = await (self._receive() if part is None else incoming.receive(part))
            data = message.get("body", b"")
        finally:
            if data is not part:
                part = None  # or an error would keep the memory
        if message["type"] == "http.disconnect":
            raise self._disconnected()
        if not message.get("more_body", False):
            self._end()
        self._received += len(data)
        if self._received > self._max_size:
            raise self._too_large(self._received)
        if data is part:
            return len(data)
        expect_large_blocks(self._received)  # the server makes and frees one for each message
        self._rest = memoryview(data)
        return 0

    @property
    def _is_done(self) -> bool:
        return self._ended and not len(self._rest)

    async def _has_ended(self) -> bool:
        """Whether nothing is left: servers may say so in a message of its own."""
        while not len(self._rest) and not self._ended:
            await self._receive_into(memoryview(b""))
        return not len(self._rest)

    def _end(self) -> None:
        self._ended = True
        self._incoming = None
        if self._request is not None and hasattr(self._request, "_stream_consumed"):
            self._request._stream_consumed = True

    # Starlette. Private parts in use: Request._body, which body() keeps, and _stream_consumed.

    def _look_at_request(self) -> None:
        """Take the body if it was read before: middlewares and FastAPI may do that."""
        read = getattr(self._request, "_body", None)
        if isinstance(read, bytes):
            self._rest = memoryview(read)
            self._received = len(read)
            self._end()
            if len(read) > self._max_size:
                raise self._too_large(len(read))
        elif getattr(self._request, "_stream_consumed", False):
            raise RuntimeError("the body of this request was read before")

    def _too_large(self, size: int) -> BodyTooLargeError:
        text = f"a body of {size} bytes is above max_size ({self._max_size} bytes)"
        if self._request is None:
            return BodyTooLargeError(text)
        return _starlette_error(text)

    def _disconnected(self) -> Exception:
        if self._request is None:
            return ClientDisconnectedError("the client disconnected before the end of its body")
        from starlette.requests import ClientDisconnect

        return ClientDisconnect()


async def body(
    request: Any,
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]] | None = None,
    *,
    max_size: int = MAX_SIZE,
    pool: Pool | None = None,
) -> memoryview:
    """Return the whole body of a request as a memoryview of pooled bytes.

    The parameters are those of ``Body``. A body with Content-Length gets one buffer of that size.
    For any other, the buffer grows. The memory is returned to the pool when nothing refers to it
    any more.

    If the pool has a budget (``max_bytes``) that is used up, the request waits in line, and until
    then its body is not received. A buffer that grows does not wait: it raises PoolExhaustedError.

    Raises BodyTooLargeError, for a Content-Length above ``max_size`` before anything is allocated;
    ClientDisconnectedError (with a Starlette request: its ClientDisconnect) if the client
    disconnects before the end; and what ``Pool.allocate_async`` raises.
    """
    source = Body(request, receive, max_size=max_size, pool=pool)
    lender = pool or bytepool.default_pool()
    view = await _lend(lender, _FIRST if source.size is None else source.size)
    try:
        # On our server, this is the whole body in most cases.
        filled = await source._receive_into(view) if source._incoming is not None else 0
        if not source._is_done:
            filled += await source.readinto(view[filled:])
        while not (source._is_done or await source._has_ended()):
            larger = lender.view(min(max(2 * len(view), _FIRST), max_size + 1))
            larger[:filled] = view[:filled]
            view = larger
            del larger
            filled += await source.readinto(view[filled:])
    except BaseException:
        del view  # or the error would keep the memory
        raise
    return view if filled == len(view) else view[:filled]


async def _lend(pool: Pool, n: int) -> memoryview:
    """Return ``n`` pooled bytes, and wait for the budget if there is need."""
    try:
        return pool.view(n)
    except bytepool.PoolExhaustedError:
        pass  # the wait is below, where the exception and its traceback are gone
    return await view_async(pool, n, asyncio.get_running_loop().create_future())


def _content_length(scope: Any) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            try:
                return max(0, int(value))
            except ValueError:
                return None
    return None


def _starlette_error(text: str) -> BodyTooLargeError:
    from starlette.exceptions import HTTPException

    kind: Any = type(BodyTooLargeError.__name__, (HTTPException, BodyTooLargeError), {})
    error: BodyTooLargeError = kind(413, text)
    return error
