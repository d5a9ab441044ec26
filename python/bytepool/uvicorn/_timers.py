"""The timers of a request body: for a chunk that fills slowly, and for a client that stalls."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from bytepool._bytepool import Target
    from bytepool.uvicorn._body import IncomingBody
    from bytepool.uvicorn._http import HttpConnection

# After so many seconds a waiting application gets a chunk that is not full.
PATIENCE = 0.02

_logger = logging.getLogger("uvicorn.error")


class Timers:
    """The timers of one body. ``stop()`` ends them, and the reference cycle with the body."""

    # What each object begins with. It takes time to set attributes.
    _part: asyncio.TimerHandle | None = None
    _timed: Target | None = None
    _stall: asyncio.TimerHandle | None = None
    _coming_before = 0
    _read_before = 0.0

    def __init__(self, body: IncomingBody, http: HttpConnection, stall_timeout: float | None):
        self._body = body
        self._http = http
        self._stall_timeout = stall_timeout

    def give_part(self, target: Target) -> None:
        """Have the body give this chunk to the application soon, full or not."""
        if self._part is None:
            self._timed = target
            self._part = self._call_later(PATIENCE, self._give_part)

    def _give_part(self) -> None:
        self._part = None
        timed, self._timed = self._timed, None
        if timed is not None:
            self._body.give_part(timed)

    def watch(self) -> None:
        """Begin to watch the progress of the client, for which the event loop now waits."""
        if self._stall is None and self._stall_timeout is not None:
            self._coming_before = self._body.coming
            self._read_before = self._http.flow.reading_seconds
            self._stall = self._call_later(self._stall_timeout, self._check_progress)

    def _check_progress(self) -> None:
        """Cut off a client that sent nothing while the transport read for the stall timeout."""
        self._stall = None
        coming, flow = self._body.coming, self._http.flow
        if self._stall_timeout is None:
            return
        reading = flow.reading_seconds
        if coming != self._coming_before:
            self._coming_before, self._read_before = coming, reading
        left = self._stall_timeout - (reading - self._read_before)
        if left > 0:
            # A moment may be left, which does not pass while the transport does not read.
            pause = self._stall_timeout if flow.read_paused else left
            self._stall = self._call_later(pause, self._check_progress)
            return
        _logger.warning(
            "The client sent nothing for %s seconds, and %d bytes of its request are missing.",
            self._stall_timeout,
            coming,
        )
        self._http.transport.abort()

    def _call_later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        return self._http.context.run(self._http.loop.call_later, seconds, call)

    def stop(self) -> None:
        """End all timers."""
        for timer in (self._part, self._stall):
            if timer is not None:
                timer.cancel()
        self._part = self._timed = self._stall = None
