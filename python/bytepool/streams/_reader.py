"""The stream reader. Its native half, which receives and reads, is in ``src/python/reader/``."""

from __future__ import annotations

import asyncio
import sys
import traceback
import warnings
from typing import Any

import bytepool
from bytepool._budget import view_async
from bytepool._bytepool import Reader
from bytepool.streams._errors import copy_error

LIMIT = 1 << 16  # asyncio's own default


class _StreamOverError(Exception):
    """Raised in a read that waits for memory when the stream ends or breaks."""


class StreamReader(Reader, asyncio.StreamReader):  # type: ignore[misc]
    """``asyncio.StreamReader`` that receives large reads straight into their result.

    It is one for ``isinstance``, and uses nothing of asyncio's class. New are ``readinto(buffer)``,
    which fills memory of yours, ``readview(n)``, which returns pooled memory, and ``frames()``,
    which iterates over length-prefixed messages.

    Args:
        pool: where pooled memory comes from; None is ``bytepool.default_pool()``.
        stall_timeout: a read in place (64 KiB and more) for which nothing comes in so many seconds
            raises TimeoutError, and the connection is aborted; None lets it wait.
    """

    # Set when the loop is in debug mode: where the reader was made.
    _source_traceback: traceback.StackSummary | None = None
    # The future of a read that waits for memory, and for how much.
    _memory_waiter: asyncio.Future[None] | None = None
    _memory_wanted = 0
    _stall_timeout: float | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    # Of a watched read: its future, how many bytes have come, and when they were counted.
    _watched: tuple[asyncio.Future[None], int, float] | None = None

    def __init__(
        self,
        limit: int = LIMIT,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        pool: bytepool.Pool | None = None,
        stall_timeout: float | None = None,
    ) -> None:
        if limit <= 0:
            raise ValueError("Limit cannot be <= 0")
        if stall_timeout is not None:
            if not stall_timeout > 0:
                raise ValueError(
                    f"stall_timeout must be above 0 seconds, or None, not {stall_timeout}"
                )
            self._stall_timeout = stall_timeout
        if loop is None:
            loop = asyncio.get_event_loop()
        self._begin(limit, loop, pool, stall_timeout is not None)
        if loop.get_debug():
            self._source_traceback = traceback.extract_stack(sys._getframe(1))

    def __repr__(self) -> str:
        info = ["StreamReader"]
        if self._unread:
            info.append(f"{self._unread} bytes")
        if self._eof:
            info.append("eof")
        if self._limit != LIMIT:
            info.append(f"limit={self._limit}")
        if self._waiter:
            info.append(f"waiter={self._waiter!r}")
        if self._exception is not None:
            info.append(f"exception={self._exception!r}")
        if self._transport:
            info.append(f"transport={self._transport!r}")
        if self._paused:
            info.append("paused")
        return f"<{' '.join(info)}>"

    def exception(self) -> Exception | None:
        """Return what the connection broke with: the object that ``set_exception`` was given.

        Reads raise copies of it, see ``_errors.py``.
        """
        return self._exception

    def set_exception(self, exc: Exception) -> None:
        """Note that the connection is broken."""
        self._exception = exc.with_traceback(None)
        self._wakeup_waiter()
        self._refuse_memory()

    def feed_eof(self) -> None:
        """Note that nothing more will come."""
        super().feed_eof()
        self._refuse_memory()

    def set_transport(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport, to hold it back when too much comes."""
        assert self._transport is None, "Transport already set"
        self._transport = transport
        # uvloop keeps receiving while buffers are filled, before a task can start its next read.
        # With TLS, it also decrypts all of that.
        is_uvloop = type(transport).__module__.startswith("uvloop")
        has_tls = is_uvloop and transport.get_extra_info("sslcontext") is not None
        self._expect(is_uvloop and not has_tls, has_tls)

    def _replace_transport(self, transport: asyncio.BaseTransport) -> None:
        """Go on with a transport that decrypts, after ``start_tls``."""
        before: Any = self._transport
        self._transport = None
        self.set_transport(transport)
        if self._paused:
            # Too much came with the handshake. The other transport would stay paused for ever.
            before.resume_reading()
            transport.pause_reading()  # type: ignore[attr-defined]

    def __aiter__(self) -> StreamReader:
        """Return the reader, which iterates over lines."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next line."""
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def _watch(self, waiter: asyncio.Future[None]) -> None:
        """Check that a read in place makes progress: it holds memory that others may need."""
        assert self._stall_timeout is not None
        filled = self._progress[0] if self._progress else 0
        self._watched = (waiter, filled, self._loop.time())
        # One timer for all reads of a connection: it looks again if a later one is being watched.
        if self._stall_timer is None:
            self._stall_timer = self._loop.call_later(self._stall_timeout, self._check_progress)

    def _check_progress(self) -> None:
        self._stall_timer, watched = None, self._watched
        assert self._stall_timeout is not None
        if watched is None or self._waiter is not watched[0] or self._progress is None:
            self._watched = None
            return
        (waiter, before, since), (filled, size) = watched, self._progress
        now = self._loop.time()
        if filled != before:
            since = now
        left = since + self._stall_timeout - now
        if left > 0:
            self._watched = (waiter, filled, since)
            self._stall_timer = self._loop.call_later(left, self._check_progress)
            return
        self._watched = None
        self.set_exception(
            TimeoutError(
                f"the peer sent nothing for {self._stall_timeout} seconds,"
                f" after {filled} of {size} bytes"
            )
        )
        abort = getattr(self._transport, "abort", None)
        if abort is not None:
            abort()

    async def _wait_for_memory(self, n: int, total: int) -> memoryview:
        """Return ``n`` pooled bytes, when the pool's budget has them.

        The message has ``total`` bytes with its header. If these can no longer come, this raises.
        """
        pool = self._pool or bytepool.default_pool()
        if self._last_view is not None and pool.stats().outstanding == 1:
            warnings.warn(
                f"a read of {n} bytes waits for the budget of its pool, which the message that this"
                " reader returned last uses up. If the task that waits holds that message, it waits"
                " for ever: del the message before the next read.",
                RuntimeWarning,
                stacklevel=2,
            )
        self._memory_wanted, waiter = total, self._loop.create_future()
        self._memory_waiter = waiter
        try:
            self._refuse_memory()
            return await view_async(pool, n, waiter)
        except _StreamOverError:
            pass
        finally:
            if self._memory_waiter is waiter:
                self._memory_waiter = None
            del waiter
        if self._exception is not None:
            raise copy_error(self._exception)
        raise self._incomplete(total)

    def _refuse_memory(self) -> None:
        """End the wait for memory if the bytes for it can no longer come."""
        waiter = self._memory_waiter
        if waiter is None or waiter.done():
            return
        if self._exception is not None or (self._eof and self._unread < self._memory_wanted):
            waiter.set_exception(_StreamOverError())
            waiter.exception()  # if the task is cancelled, nobody else looks at it
