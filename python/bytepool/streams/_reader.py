"""A stream reader whose targets the socket fills directly.

It names the memory that is to be filled next; the protocol in ``bytepool.streams`` hands that to
the event loop.
"""

from __future__ import annotations

import asyncio
import copy
import operator
import weakref
from typing import TYPE_CHECKING

import bytepool
from bytepool._budget import view_async

if TYPE_CHECKING:
    from typing_extensions import Buffer

LIMIT = 1 << 16  # asyncio's own default
# How much is read ahead while no target waits. It is copied once more on its way into a target, so
# a connection that asks for large messages gets the least; it doubles as long as reads fill it up.
_LEAST_AHEAD = 4 << 10
_MOST_AHEAD = 256 << 10
_LARGE = 64 << 10


_scratches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, memoryview] = (
    weakref.WeakKeyDictionary()
)


def scratch(loop: asyncio.AbstractEventLoop) -> memoryview:
    """Memory that all connections of a loop read ahead through; each empties it before the next."""
    try:
        return _scratches[loop]
    except KeyError:
        return _scratches.setdefault(loop, memoryview(bytearray(_MOST_AHEAD)))


class StreamReader(asyncio.StreamReader):
    """``asyncio.StreamReader`` that can also receive straight into memory of yours or of a pool."""

    if TYPE_CHECKING:
        # What asyncio's class keeps to itself, and this one builds on: unchanged from CPython 3.11
        # to 3.13, and CPython's own tests are run on the result.
        _buffer: bytearray
        _eof: bool
        _loop: asyncio.AbstractEventLoop
        _paused: bool
        _transport: asyncio.ReadTransport | None
        _waiter: asyncio.Future[None] | None

        def _wakeup_waiter(self) -> None: ...
        def _maybe_resume_transport(self) -> None: ...

    def __init__(
        self,
        limit: int = LIMIT,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        pool: bytepool.Pool | None = None,
    ) -> None:
        self._broken: Exception | None = None
        super().__init__(limit, loop)
        self._pool = pool
        # Who waits for memory, and for how much.
        self._turn: asyncio.Future[None] | None = None
        self._wanted = 0
        self._target: _Target | None = None
        self._scratch = scratch(self._loop)
        self._reading: memoryview | None = None
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
        target = _Target(view.cast("B"))
        del view  # an error would hold it, and the buffer could not be resized
        size = len(target.view)
        if size:
            await self._fill(target, "readinto")
        return size

    async def readview(self, n: int, *, max_size: int | None = None) -> memoryview:
        """Return a memoryview of exactly ``n`` pooled bytes, filled from the stream.

        ``max_size`` is for lengths that a peer has sent: if ``n`` is above it, ValueError is raised
        before anything is allocated. Fresh memory costs the system nothing until it is written, so
        a peer that promises much and sends little is dear in address space only.

        If the pool has a budget (``max_bytes``) that is used up, this waits for its turn first;
        what the peer sends meanwhile is read ahead as far as always, and then held back.

        Raises IncompleteReadError, which carries what came, if the stream ends before, and what
        ``Pool.allocate_async`` raises. When this is cancelled, what had arrived is not lost: the
        next read gets it, copied twice, so a short timeout that is tried again and again costs
        much.
        """
        n = operator.index(n)
        if max_size is not None and n > max_size:
            raise ValueError(f"a message of {n} bytes is above max_size ({max_size} bytes)")
        target = _Target(await self._lend(n))
        await self._fill(target, "readview")
        return target.view

    async def _lend(self, n: int) -> memoryview:
        """``n`` pooled bytes, for which this waits if the pool's budget is used up."""
        pool = self._pool or bytepool.default_pool()
        try:
            return pool.view(n)
        except bytepool.PoolExhaustedError:
            pass
        self._check(n)
        self._wanted, turn = n, self._loop.create_future()
        self._turn = turn
        try:
            return await view_async(pool, n, turn)
        except bytepool.PoolExhaustedError:
            self._check(n)  # it may be over meanwhile
            raise
        finally:
            if self._turn is turn:
                self._turn = None

    def _check(self, n: int) -> None:
        """Raise if ``n`` bytes will never come."""
        if self._exception is not None:
            raise self._exception
        if self._eof and len(self._buffer) < n:
            partial = bytes(self._buffer)
            self._buffer.clear()
            raise asyncio.IncompleteReadError(partial, n)

    def _lend_no_more(self) -> None:
        """Let nobody wait for memory for what will never come."""
        over = self._broken is not None or len(self._buffer) < self._wanted
        if over and self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

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
            if not target.rest:
                return
            self._target = target
            while target.rest:
                if self._eof:
                    raise asyncio.IncompleteReadError(target.take_back(), size)
                await self._wait_for_data(caller)
        except BaseException:
            # Cancelled, or the connection is broken: what came stays for the next read.
            try:
                self._buffer[:0] = target.take_back()
            except MemoryError as error:  # nobody must read on behind a hole
                self.set_exception(error)
            raise
        finally:
            if self._target is target:
                self._target = None

    async def _wait_for_data(self, func_name: str) -> None:
        # asyncio's own waits for ever if the connection broke since the read began; and it forgets
        # who waits by now when one that had been woken before gets to run.
        if self._exception is not None:
            raise self._exception
        if self._waiter is not None:
            raise RuntimeError(
                f"{func_name}() called while another coroutine is already waiting for incoming data"
            )
        if self._paused:  # it would wait for ever
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            if self._waiter is waiter:
                self._waiter = None
            del waiter  # which holds the error that this is in the traceback of

    # What is raised holds, by its traceback, the frames it went through: those of the user's
    # handler too, with the messages in it and with this reader. So this must not hold it in turn.

    @property
    def _exception(self) -> Exception | None:
        """Why the connection is broken: one to raise, a new one for each who asks."""
        return None if self._broken is None else copy_error(self._broken)

    @_exception.setter
    def _exception(self, exc: Exception | None) -> None:
        self._broken = None if exc is None else copy_error(exc)

    def set_exception(self, exc: Exception) -> None:
        """Note that the connection is broken."""
        # Its traceback holds the event loop's frame, which holds the target it was receiving into.
        super().set_exception(copy_error(exc.with_traceback(None)))
        self._lend_no_more()

    def feed_eof(self) -> None:
        """Note that nothing more will come."""
        super().feed_eof()
        self._lend_no_more()

    def feed_data(self, data: Buffer) -> None:  # type: ignore[override]
        """Take data from the transport: into the target, and what is left to read later."""
        if self._target is not None and not self._eof:
            data = memoryview(data)[self._target.feed(data) :]
            if not self._target.rest:
                self._target_is_full()
        super().feed_data(data)  # type: ignore[arg-type]

    # The two halves of a read from the socket: the loop fills what the first returns, at once.

    def _get_buffer(self, least: int = 0) -> memoryview:
        """Where to read to, ``least`` bytes or more."""
        target = self._target
        if target is not None and len(target.rest) >= least:
            self._reading = None
            return target.rest
        size = max(self._ahead, least)
        if size <= len(self._scratch):
            self._reading = self._scratch[:size]
        else:
            self._reading = memoryview(bytearray(size))
        return self._reading

    def _buffer_updated(self, nbytes: int) -> None:
        ahead, self._reading = self._reading, None
        target = self._target
        if ahead is None and target is not None:
            target.rest = target.rest[nbytes:]
            if not target.rest:
                self._target_is_full()
            return
        if ahead is not None:
            self.feed_data(ahead[:nbytes])
        if nbytes == self._ahead:
            self._ahead = min(2 * nbytes, _MOST_AHEAD)
            if self._greedy:
                self._let_others_run()

    def _target_is_full(self) -> None:
        """Wake its reader. What comes next is not for this target."""
        self._target = None
        self._wakeup_waiter()
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


def copy_error(exc: Exception) -> Exception:
    """The same without a traceback, and without whatever else was hung onto it."""
    try:
        return copy.copy(exc).with_traceback(None)
    except Exception:  # an exception that cannot be made again from what it says it was made from
        return exc.with_traceback(None)


class _Target:
    """Memory that a reader waits to see filled, and the rest of it that is not filled yet."""

    __slots__ = ("rest", "view")

    def __init__(self, view: memoryview) -> None:
        self.view = self.rest = view

    def feed(self, data: Buffer) -> int:
        """Copy what fits, and return how many bytes that was."""
        with memoryview(data) as source, source[: len(self.rest)] as chunk:
            fed = len(chunk)
            self.rest[:fed] = chunk
            self.rest = self.rest[fed:]
            return fed

    def take_back(self) -> bytes:
        """Give up the memory, and return a copy of what had come."""
        try:
            return bytes(self.view[: len(self.view) - len(self.rest)])
        finally:
            self.view = self.rest = memoryview(b"")
