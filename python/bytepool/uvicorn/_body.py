"""A request body that is received in place: as ``bytes``, or into memory of the application."""

from __future__ import annotations

from asyncio import sleep
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

from bytepool._bytepool import Target
from bytepool.uvicorn._chunks import ChunkSize
from bytepool.uvicorn._timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typing_extensions import Buffer

    from bytepool.uvicorn._http import HttpConnection

# If so many bytes came at once, and no more are missing, these are likely to come soon.
MUCH, LITTLE = 64 << 10, 1 << 20


class IncomingBody:
    """The body of one request, between the transport that delivers it and the application.

    ``receive()`` reads what the socket has, and lets the transport read the rest, which reads at
    most one chunk further. This object is in reference cycles with the connection. So it keeps no
    message that the application has (but see ``ChunkSize``).
    """

    # What each object begins with. It takes time to set attributes.
    _receive: Callable[[], Awaitable[Any]] | None = None
    _cycle: Any = None
    # Bytes that have come and are in no target: those that the parser got with the headers.
    _early: bytes | memoryview = b""
    # Whether the parser has let go of the bytes before those that the socket has.
    _is_settled = False
    # The memory that is being filled, and the application's view if it is its memory.
    _target: Target | None = None
    _view: memoryview | None = None
    _closed = False
    _lost = False
    # How many calls of receive() wait for the event loop.
    waiting = 0
    # Whether the last message was read at once, so that other tasks have to run before the next.
    _read_at_once = False

    def __init__(self, http: HttpConnection, size: int, stall_timeout: float | None) -> None:
        self._http: HttpConnection | None = http
        self._app: Callable[..., Awaitable[Any]] = http.app
        # How many bytes the transport has still to deliver.
        self.coming = size
        # Bytes for the application, or full targets, some with the view that they fill.
        self._ready: deque[tuple[Target, memoryview | None] | bytes] = deque()
        self._chunk_size = ChunkSize()
        self._timers: Timers | None = Timers(self, http, stall_timeout)

    # Called by the application.

    async def serve(self, scope: Any, receive: Any, send: Any) -> Any:
        """Run the application, as uvicorn does, with a ``receive`` that receives in place."""
        self._receive, self._cycle = receive, receive.__self__
        scope["extensions"] = {**scope.get("extensions", {}), "bytepool": self}
        app = self._app
        del self._app
        try:
            return await app(scope, self.receive, send)
        finally:
            self.close()

    @property
    def left(self) -> int:
        """How many bytes the application has not got yet."""
        if self._closed:
            return 0
        if self._target is None and not self._ready:
            return len(self._early) + self.coming
        ready = sum(
            len(item) if isinstance(item, bytes) else item[0].filled for item in self._ready
        )
        filled = self._target.filled if self._target is not None else 0
        return ready + filled + len(self._early) + self.coming

    async def receive(self, view: memoryview | None = None) -> Any:
        """Return the next message, as an ASGI server's ``receive`` does.

        With a ``view`` the message fills it, and has it as its body, unless another task gets these
        bytes. A view is writable, contiguous, of format ``B``, not empty, and has at most ``left``
        bytes.
        """
        must_yield = self._read_at_once if view is not None else not self._ready
        try:
            while True:
                if self._closed or self._receive is None:
                    return {"type": "http.disconnect"}
                if self._cycle.response_complete or not (self._ready or self._has_more()):
                    # Only the end of the connection can still be received.
                    return await self._receive()
                if not (must_yield and self.coming):
                    break
                must_yield = False
                await self._let_others_run()
            if view is not None:
                if self._ready or self._target is not None:
                    self._reclaim()
                if len(view) <= len(self._early) + self.coming:
                    self._begin_target(view)
                else:
                    view = None  # meanwhile, another call got some of its bytes
            while not self._closed:
                if not self._ready and self._has_more():
                    if self._target is None:
                        self._begin_target()
                    if self._read():
                        await sleep(0)
                        continue
                if self._ready and not self._cycle.waiting_for_100_continue:
                    return self._next(view)
                message = await self._wait()
                if self._ready:
                    return self._next(view)
                if message["type"] == "http.disconnect" or not self._has_more():
                    return message  # another call got the rest
            return {"type": "http.disconnect"}
        except BaseException:
            if view is not None and self._fills(view):
                # The application may use its memory again.
                self._pause()
                self._reclaim()
                if self.waiting:
                    self._cycle.message_event.set()  # the others go on with memory of their own
            view = None  # or the error would keep the memory
            raise

    async def _let_others_run(self) -> None:
        """Let other tasks run before the next bytes are read."""
        self._read_at_once = False
        try:
            await sleep(0)  # Starlette's is_disconnected() cancels it here, where no byte is lost
        except BaseException:
            if not self._closed:
                self._resume()  # the event loop then sees if the client disconnects
            raise

    async def _wait(self) -> Any:
        """Have the event loop read, and wait until there is a message, or the end."""
        assert self._receive is not None
        if self._ready:
            self._cycle.message_event.set()
        self.waiting += 1
        try:
            self._resume()
            # uvicorn's own receive answers Expect: 100-continue, and waits for the event.
            return await self._receive()
        finally:
            self.waiting -= 1

    def _fills(self, view: memoryview) -> bool:
        return self._view is view or any(
            not isinstance(item, bytes) and item[1] is view for item in self._ready
        )

    def _has_more(self) -> bool:
        return bool(self.coming or self._target is not None or len(self._early))

    def _next(self, wanted: memoryview | None) -> dict[str, Any]:
        """Return the next message. Its body is no memory that another call wants filled."""
        item = self._ready.popleft()
        if isinstance(item, bytes):
            body: bytes | memoryview = item
        else:
            target, view = item
            body = target.finish() if view is None or view is not wanted else view
        if self.coming and type(body) is bytes:
            self._chunk_size.note(body)
        if not self._ready:
            self._cycle.message_event.clear()
        more = bool(self._lost or self._ready or self._has_more())
        if not more:
            self._cycle.more_body = False
        return {"type": "http.request", "body": body, "more_body": more}

    def close(self) -> None:
        """Let go of all memory. Later bytes are dropped."""
        self._closed = True
        self._ready.clear()
        self._target = self._view = None
        self._early = b""
        self._receive = self._cycle = None
        self._chunk_size.end()
        if not self.coming:
            self.end()

    # Called by the connection.

    @property
    def is_full(self) -> bool:
        """Whether the transport has to wait for the application, which has not answered yet."""
        if self.waiting or not self._ready:
            return False
        return self._cycle is None or not self._cycle.response_complete

    def begin(self, cycle: Any) -> None:
        """Take note of uvicorn's object for the request, which may wait behind another one."""
        self._cycle = cycle
        # In the task's context, the timer for the next request would keep its context variables. A
        # copy, because an eager task that begins within this call may enter the context, too.
        assert self._http is not None
        cycle.on_response = partial(self._http.context.copy().run, cycle.on_response)

    def take_early(self) -> None:
        """Take what the parser got together with the headers. uvicorn keeps it in the cycle."""
        early, self._cycle.body = self._cycle.body, bytearray()
        self.coming -= len(early)
        self._early = memoryview(early)
        self._cycle.message_event.clear()
        self._is_settled = True
        if self._target is not None:
            self._place_early()
            if self._target is None:
                self._pause()

    def get_buffer(self) -> memoryview | None:
        """Return where the transport is to receive to; None if it is to drop all bytes.

        This must not pause the transport: libuv would then call a function that is not there.
        """
        if self._timers is not None:
            self._timers.watch()
        if self._closed or (self._cycle is not None and self._cycle.response_complete):
            if not self._closed:
                self.close()
            return None
        while self._target is None:
            self._begin_target()
        return self._target.rest()

    def buffer_updated(self, n: int) -> None:
        """Note that the transport has received ``n`` bytes to where it was told."""
        self.coming -= n
        target = self._target
        if target is None:
            return
        if target.advance(n):
            self._finish_target()
            self._pause()
        elif self.waiting:
            self._hurry()

    def lose(self) -> None:
        """Note that the connection is lost: no more bytes will come."""
        self.end()
        if self._receive is None:
            self.close()
        elif self.coming:
            self.coming, self._lost = 0, True
            self._reclaim()
            if self._early:
                self._ready.append(bytes(self._early))
                self._early = b""

    def end(self) -> None:
        """Note that nothing more comes."""
        if self._http is not None:
            self._chunk_size.end()
            if self._timers is not None:
                self._timers.stop()
            self._http = self._timers = None

    # Between the two.

    def _begin_target(self, view: memoryview | None = None) -> None:
        """Begin to fill the next chunk, or the memory of the application."""
        self._view = view
        if view is None:
            self._target = Target(min(self._chunk_size.next(), len(self._early) + self.coming))
        else:
            self._target = Target.over(view)
        self._place_early()

    def _place_early(self) -> None:
        if self._early:
            assert self._target is not None
            early = self._early
            n = self._target.write(early)
            self._early = memoryview(early)[n:] if n < len(early) else b""
            if not len(self._target.rest()):
                self._finish_target()

    def _finish_target(self) -> None:
        assert self._target is not None
        self._ready.append((self._target, self._view))
        self._target = self._view = None
        if self.waiting:
            self._cycle.message_event.set()

    def _reclaim(self) -> None:
        """Move all that the application has not got out of targets."""
        parts: list[Buffer] = [
            item if isinstance(item, bytes) else item[0].finish() for item in self._ready
        ]
        self._ready.clear()
        if self._target is not None:
            parts.append(self._target.finish())
            self._target = self._view = None
        if parts:
            self._early = b"".join((*parts, self._early))

    def _pause(self) -> None:
        if self._http is not None and self.coming:
            self._http.flow.pause_reading()

    def _read(self) -> bool:
        """Read what the socket has, without the event loop. True if the rest may come soon."""
        http, target = self._http, self._target
        if http is None or target is None or not self.coming or not self._is_settled:
            return False
        n = http.flow.read_into(target.rest())
        if n:
            self._read_at_once = True
            http.received(n)
        return n >= MUCH and self._target is target and len(target.rest()) <= LITTLE

    def _resume(self) -> None:
        self._hurry()
        if self._timers is not None:
            self._timers.watch()
        # In the task's context, asyncio would keep the values of the task's context variables.
        if self._http is not None and self._http.flow.read_paused:
            self._http.context.run(self._http.flow.resume_reading)

    def _hurry(self) -> None:
        """Give the application the received part of the chunk, if any, unless it is soon full.

        Memory of the application is filled as a whole.
        """
        target, timers = self._target, self._timers
        if timers is not None and self._view is None and target is not None and target.filled:
            timers.give_part(target)

    def give_part(self, timed: Target) -> None:
        """Give the application a chunk that was begun long enough ago. A newer one has time."""
        if self.waiting and self._target is timed:
            self._finish_target()
            self._pause()
        elif self.waiting:
            self._hurry()
