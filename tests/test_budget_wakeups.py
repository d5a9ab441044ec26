"""Waking a waiter runs Python code in the middle of whatever returned the memory."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import sys
from typing import TYPE_CHECKING

import pytest
from helpers import LONG, budget_pool, run_python, settle

from bytepool import Allocator, PoolClosedError, PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_wakeup_preserves_an_exception_being_propagated() -> None:
    """Unwinding may return memory, and the wakeup that follows runs Python code."""

    async def main() -> None:
        pool = budget_pool(1)
        holder = [pool.view(1)]
        waiter = asyncio.create_task(pool.allocate_async(1))
        await settle()
        with pytest.raises(TypeError, match="must be real number, not memoryview"):
            math.sqrt(holder.pop())  # type: ignore[arg-type]  # the view dies after the error was set
        assert (await asyncio.wait_for(waiter, LONG)).size == 1

    asyncio.run(main())


def test_release_at_the_recursion_limit_still_wakes_a_waiter() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        for depth in range(40):
            alloc = pool.allocate(1)
            waiter = asyncio.create_task(pool.allocate_async(1))
            await settle()

            def release(depth: int, alloc: Allocator = alloc) -> None:
                if depth:
                    release(depth - 1)
                else:
                    alloc.release()

            frames = len(inspect.stack())
            with contextlib.suppress(RecursionError):
                release(sys.getrecursionlimit() - frames - depth)
            if alloc.size:
                alloc.release()
            (await asyncio.wait_for(waiter, LONG)).release()

    with ignore_unraisable_errors():
        asyncio.run(main())


@contextlib.contextmanager
def ignore_unraisable_errors() -> Iterator[None]:
    hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = hook


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_signal_during_a_wakeup_loses_neither_the_signal_nor_the_waiter() -> None:
    code = """
        import asyncio, os, signal, threading, time
        from bytepool import Pool

        signal.signal(signal.SIGINT, signal.default_int_handler)
        n = 1 << 26
        pool = Pool(n, n, max_bytes=n, zero="release")
        alloc = pool.allocate(n)
        got = threading.Event()
        ready = threading.Event()

        async def wait():
            loop = asyncio.get_running_loop()
            loop.slow_callback_duration = 60  # no warnings about a busy machine
            loop.call_later(0.05, ready.set)
            with await pool.allocate_async(n):
                got.set()

        thread = threading.Thread(target=lambda: asyncio.run(wait()))
        thread.start()
        ready.wait()
        # Sent while the bytes are zeroed, so that Python handles it during the wakeup.
        kill = threading.Timer(0.002, lambda: os.kill(os.getpid(), signal.SIGINT))
        interrupted = False
        try:
            kill.start()
            alloc.release()
            time.sleep(5)
        except KeyboardInterrupt:
            interrupted = True
        kill.join()
        if alloc.size:
            alloc.release()  # the signal came before the release
        print(interrupted, got.wait(5))
        thread.join()
    """
    assert run_python(code) == "True True\n"


def test_wake_callback_that_raises_is_reported_and_retried() -> None:
    code = """
        import sys, time
        from bytepool import Pool
        from bytepool._bytepool import Waiter

        reported = []
        sys.unraisablehook = lambda unraisable: reported.append(unraisable.exc_type)
        pool = Pool(1024, 1024, max_bytes=1024)
        alloc = pool.allocate(1)
        woken = []
        with Waiter(pool, 1, lambda: 1 / 0) as bad:
            with Waiter(pool, 1, lambda: woken.append(1)) as good:
                alloc.release()
                alloc = bad.take()
                alloc.release()
                good.take().release()
        while len(reported) < 2:  # a thread calls the callback a second time
            time.sleep(0.001)
        print(reported, woken, pool.stats().outstanding)
    """
    assert run_python(code) == "[<class 'ZeroDivisionError'>, <class 'ZeroDivisionError'>] [1] 0\n"


def test_task_notices_its_grant_without_memory_for_the_wakeup(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second call, by a new thread, would need memory too. The task looks once a second."""

    def fail(*_: object) -> None:
        raise MemoryError

    async def main() -> None:
        pool = budget_pool(1)
        alloc = pool.allocate(1)
        task = asyncio.create_task(pool.allocate_async(1))
        await settle()
        with ignore_unraisable_errors(), monkeypatch.context() as patch:
            patch.setattr(asyncio.get_running_loop(), "call_soon_threadsafe", fail)
            alloc.release()
        assert not task.done()
        (await asyncio.wait_for(task, LONG)).release()

    asyncio.run(main())


def test_wake_callback_may_use_the_pool() -> None:
    from bytepool._bytepool import Waiter

    pool = budget_pool(2)
    alloc = pool.allocate(1)
    other = pool.allocate(1)
    seen: list[object] = []

    def wake() -> None:
        seen.append(pool.stats().outstanding)
        seen.append(pool.trim())
        with pytest.raises(PoolExhaustedError):
            pool.view(1)

    with Waiter(pool, 1, wake) as waiter:
        alloc.release()
        assert seen == [2, 0]  # the granted buffer counts as in use
        waiter.take().release()
        with pytest.raises(PoolClosedError):
            waiter.take()
    other.release()
    assert pool.stats().outstanding == 0


def test_interpreter_may_shut_down_during_a_retried_wakeup() -> None:
    """The retry once ran in a native thread, where the shutdown aborted the process."""
    code = """
        import sys, time
        from bytepool import Pool
        from bytepool._bytepool import Waiter

        sys.unraisablehook = lambda unraisable: None
        calls = []

        def wake():
            calls.append(len(calls))
            if calls == [0]:
                raise ValueError
            for _ in range(1000):
                time.sleep(0.0005)  # releases the GIL, and needs it again during the shutdown

        class Last:
            def __del__(self, sleep=time.sleep):
                sleep(0.1)

        last = Last()
        pool = Pool(64, 64, max_bytes=64)
        alloc = pool.allocate(64)
        waiter = Waiter(pool, 64, wake)
        alloc.release()
        while len(calls) < 2:
            time.sleep(0.01)
        print("end")
    """
    assert run_python(code) == "end\n"
