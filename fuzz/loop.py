"""An event loop and tasks whose every step a fuzzer takes by hand.

Tasks do what asyncio's do, but only when they are told to. This is much faster than a real event
loop, and the order of all steps is part of the input.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Timer:
    """A timer that never expires."""

    def cancel(self) -> None:
        pass


class ManualLoop:
    """What stream readers and waits for a budget need of an event loop."""

    def __init__(self) -> None:
        self._ready: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return False

    def time(self) -> float:
        return 0.0

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=LOOP)

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        self._ready.append((callback, args))

    call_soon_threadsafe = call_soon

    def call_later(self, *_args: Any, context: Any) -> Timer:
        del context
        return Timer()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise AssertionError(context)

    def run_callbacks(self) -> bool:
        """Run what is scheduled by now, and return whether there was anything."""
        ran = bool(self._ready)
        for _ in range(len(self._ready)):
            callback, args = self._ready.popleft()
            callback(*args)
        return ran


LOOP: Any = ManualLoop()


class Task:
    """A coroutine, driven as ``asyncio.Task`` drives it."""

    __slots__ = ("_cancels", "_coroutine", "_future", "error", "is_done", "result")

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._future: asyncio.Future[Any] | None = None
        self._cancels = False
        self.is_done = False
        self.result: Any = None
        self.error: BaseException | None = None

    def step(self) -> bool:
        """Continue the coroutine if it waits for nothing, and return whether it did."""
        future = self._future
        if self.is_done or (future is not None and not future.done()):
            return False
        self._future = None
        cancels, self._cancels = self._cancels, False
        try:
            error: BaseException | None = None
            if future is not None and not future.cancelled():
                error = future.exception()
            if cancels or (future is not None and future.cancelled()):
                error = asyncio.CancelledError()
            if error is None:
                self._wait_for(self._coroutine.send(None))
            else:
                self._wait_for(self._coroutine.throw(error))
        except StopIteration as stop:
            self.result, self.is_done = stop.value, True
        except BaseException as error:
            # Without a traceback, which would keep the frames of this step.
            self.error, self.is_done = error.with_traceback(None), True
        if self.is_done:
            self._coroutine = None
        return True

    def _wait_for(self, future: Any) -> None:
        assert future._asyncio_future_blocking
        future._asyncio_future_blocking = False
        self._future = future

    def cancel(self) -> None:
        if self._future is None or not self._future.cancel():
            self._cancels = True

    def close(self) -> None:
        """End the coroutine as the garbage collector does for a task that is dropped."""
        if self._future is not None:  # a coroutine that was never started warns
            self._coroutine.close()
            self._coroutine, self._future, self.is_done = None, None, True
