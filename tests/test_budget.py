"""``max_bytes``: what a pool may hold at all, and how one waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from helpers import run_python

from bytepool import Allocator, Pool, PoolClosedError, PoolExhaustedError, _budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB = 1 << 10
SOON = 0.05  # seconds in which nothing happens
LATE = 20.0  # seconds in which it must


def tight(buffers: int = 4, **options: Any) -> Pool:
    """A pool whose budget holds so many buffers of its one size class."""
    return Pool(KIB, KIB, max_bytes=buffers * KIB, **options)


def held(pool: Pool) -> int:
    stats = pool.stats()
    return stats.outstanding_bytes + stats.idle_bytes


def in_thread(*steps: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=lambda: [step() for step in steps])
    thread.start()
    return thread


def waiting(pool: Pool, n: int) -> None:
    """Return when so many wait in the pool's queue."""
    deadline = time.monotonic() + LATE
    while time.monotonic() < deadline:
        try:
            assert pool.max_bytes
            pool.view(pool.max_bytes).release()
        except PoolExhaustedError as error:
            if f"and {n} requests wait" in str(error):
                return
        time.sleep(0.001)
    raise AssertionError(f"{n} requests do not wait")


# At once


def test_a_used_up_budget_is_a_memory_error_with_the_numbers() -> None:
    pool = tight(4)
    out = [pool.view(1000) for _ in range(4)]
    refusals: tuple[Callable[[int], object], ...] = (
        pool.view,
        pool.allocate,
        pool.allocator().allocate,
    )
    for refused in refusals:
        with pytest.raises(PoolExhaustedError, match=r"1024 bytes .* 4096 of 4096 bytes .*, and 0"):
            refused(1)
    assert issubclass(PoolExhaustedError, MemoryError)
    assert pool.stats().outstanding == 4
    out.pop()
    assert pool.view(1).nbytes == 1


def test_it_bounds_what_is_out_and_idle_together() -> None:
    pool = Pool(KIB, 16 * KIB, max_bytes=16 * KIB)
    choose = random.Random(1)
    out: list[memoryview] = []
    refused = 0
    for _ in range(2000):
        if out and choose.random() < 0.5:
            out.pop(choose.randrange(len(out)))
        else:
            try:
                out.append(pool.view(choose.randrange(20 * KIB)))
            except PoolExhaustedError:
                refused += 1
        assert held(pool) <= 16 * KIB
    assert refused > 100


def test_idle_memory_makes_way() -> None:
    pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
    views = [pool.view(KIB) for _ in range(4)]
    views.clear()
    assert pool.stats().idle_bytes == 4 * KIB
    with pool.allocate(4 * KIB):
        (small, large) = pool.stats().buckets
        assert (small.capped, small.depth, large.outstanding) == (4, 0, 1)


def test_transient_requests_count() -> None:
    pool = Pool(KIB, KIB, max_bytes=10_000)
    view = pool.view(9_000)
    with pytest.raises(PoolExhaustedError):
        pool.view(1)
    del view
    assert pool.view(1).nbytes == 1


@pytest.mark.parametrize("options", [{}, {"timeout": 5}, {"timeout": None}])
def test_what_the_budget_can_never_hold_is_refused_at_once(options: dict[str, Any]) -> None:
    pool = Pool(KIB, 64 * KIB, max_bytes=10 * KIB)
    for n, size in ((9 * KIB, 16 * KIB), (1 << 30, 1 << 30)):
        with pytest.raises(PoolExhaustedError, match=rf"{size} bytes .* whole budget of 10240"):
            pool.allocate(n, **options)

    async def allocate() -> None:
        await pool.allocate_async(9 * KIB)

    with pytest.raises(PoolExhaustedError, match="whole budget"):
        asyncio.run(allocate())
    assert pool.view(8 * KIB).nbytes == 8 * KIB


def test_a_null_pool_in_its_place_keeps_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTEPOOL", "null")
    pool = tight(1)
    assert (repr(pool), pool.max_bytes) == ("Pool.null()", KIB)
    alloc = pool.allocate(KIB)
    with pytest.raises(PoolExhaustedError):
        pool.view(1)
    thread = in_thread(lambda: time.sleep(SOON), alloc.release)
    pool.allocate(KIB, timeout=LATE).release()
    thread.join()


# Threads


def test_a_thread_waits_until_another_one_releases() -> None:
    pool = tight(1)
    alloc = pool.allocate(1)
    got: list[Allocator] = []
    thread = in_thread(lambda: got.append(pool.allocate(2, timeout=LATE)))
    waiting(pool, 1)
    assert not got
    alloc.release()
    thread.join(LATE)
    assert got[0].size == 2


@pytest.mark.parametrize("timeout", [None, LATE, math.inf, 1e300])
def test_a_timeout_may_be_as_long_as_one_likes(timeout: float | None) -> None:
    pool = tight(1)
    alloc = pool.allocate(1)
    thread = in_thread(lambda: waiting(pool, 1), alloc.release)
    reused = pool.allocator()
    assert len(reused.allocate(7, timeout=timeout)) == 7
    thread.join()


def test_after_the_timeout_it_raises_and_has_left_the_queue() -> None:
    pool = tight(1)
    alloc = pool.allocate(1)
    begin = time.monotonic()
    with pytest.raises(PoolExhaustedError):
        pool.allocate(1, timeout=SOON)
    assert time.monotonic() - begin >= SOON
    alloc.release()
    pool.allocate(1).release()
    assert pool.stats().outstanding == 0


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (-math.inf, ValueError), (math.nan, ValueError), ("1", TypeError)],
)
def test_a_timeout_that_makes_no_sense_is_refused(timeout: Any, error: type[Exception]) -> None:
    for refuse in (Pool().allocate, Pool().allocator().allocate):
        with pytest.raises(error, match=r"timeout must be|must be real number"):
            refuse(1, timeout=timeout)


def test_first_come_first_served_and_nobody_overtakes() -> None:
    """A large request is not starved by small ones, whether those wait or only try."""
    pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
    out = [pool.allocate(KIB) for _ in range(4)]
    served: list[int] = []

    def wait_for(n: int) -> None:
        with pool.allocate(n, timeout=LATE):
            served.append(n)

    threads = []
    for place, n in enumerate([3 * KIB, 1, 4 * KIB, 2]):
        threads.append(in_thread(lambda n=n: wait_for(n)))  # type: ignore[misc]
        waiting(pool, place + 1)
    for alloc in out[:3]:
        alloc.release()
        with pytest.raises(PoolExhaustedError, match="4 requests wait"):
            pool.view(1)  # would fit, and is not next
        assert pool.stats().idle_bytes == 0
    assert not served
    out[3].release()
    for thread in threads:
        thread.join(LATE)
    assert served == [3 * KIB, 1, 4 * KIB, 2]
    assert (pool.stats().outstanding, held(pool) <= 4 * KIB) == (0, True)


def test_memory_that_somebody_waits_for_is_handed_over_warm() -> None:
    pool = tight(1)
    alloc = pool.allocate(5)
    alloc.bytes()[:] = b"hello"
    thread = in_thread(lambda: waiting(pool, 1), alloc.release)
    assert bytes(pool.allocate(5, timeout=LATE).bytes()) == b"hello"
    thread.join()
    (bucket,) = pool.stats().buckets
    assert (bucket.hits, bucket.misses, bucket.freed) == (1, 1, 0)


def test_closing_the_pool_wakes_who_waits() -> None:
    pool = tight(1)
    alloc = pool.allocate(1)
    with ThreadPoolExecutor() as threads:
        waiters = [threads.submit(pool.allocate, 1, timeout=None) for _ in range(3)]
        waiting(pool, 3)
        pool.close()
        for waiter in waiters:
            with pytest.raises(PoolClosedError):
                waiter.result(LATE)
    alloc.release()
    assert held(pool) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.thread_unsafe(reason="signals are for the main thread")
def test_a_signal_interrupts_the_wait_and_nothing_is_lost() -> None:
    pool = tight(1)
    alloc = pool.allocate(1)
    # Whatever this process inherited: one in the background may ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = in_thread(lambda: waiting(pool, 1), lambda: os.kill(os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            pool.allocate(1, timeout=LATE)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    alloc.release()
    pool.allocate(1).release()


def test_many_threads_share_a_small_budget() -> None:
    """Every one is served, the budget is never exceeded, and nothing is lost."""
    pool = Pool(KIB, 8 * KIB, max_bytes=16 * KIB)
    over = threading.Event()

    def work(seed: int) -> int:
        choose = random.Random(seed)
        for _ in range(200):
            n = choose.randrange(10 * KIB)
            with pool.allocate(n, timeout=LATE) as alloc:
                view = alloc.bytes()
                view[:8] = bytes([seed]) * len(view[:8])
                if choose.random() < 0.1:
                    time.sleep(0.0001)
                assert view[:8] == bytes([seed]) * len(view[:8])
                del view
        return 200

    def watch() -> int:
        most = 0
        while not over.is_set():
            most = max(most, pool.stats().outstanding_bytes)
        return most

    with ThreadPoolExecutor(9) as threads:
        most = threads.submit(watch)
        try:
            done = sum(threads.map(work, range(1, 9)))
        finally:
            over.set()
    assert done == 1600
    # The snapshot goes from class to class, so a buffer that moves meanwhile may count twice.
    assert most.result() <= 2 * 16 * KIB
    assert (pool.stats().outstanding, held(pool) <= 16 * KIB) == (0, True)


def test_a_fork_does_not_wait_for_the_parents_threads() -> None:
    code = """
        import os, threading, time, warnings, bytepool
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is the point
        pool = bytepool.Pool(1024, 1024, max_bytes=1024)
        alloc = pool.allocate(1)
        thread = threading.Thread(target=lambda: pool.allocate(1, timeout=20).release())
        thread.start()
        while True:
            try:
                pool.view(1)
            except bytepool.PoolExhaustedError as error:
                if "1 requests wait" in str(error):
                    break
            time.sleep(0.001)
        child = os.fork()
        if child == 0:
            alloc.release()
            pool.allocate(1).release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        alloc.release()
        thread.join()
        print("end")
    """
    assert run_python(code) == "end\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_that_closes_the_pool_wakes_nobody_of_its_parent() -> None:
    code = """
        import os, warnings, bytepool
        from bytepool._bytepool import Ticket
        pool = bytepool.Pool(1024, 1024, max_bytes=1024)
        alloc = pool.allocate(1)
        woken = []
        with Ticket(pool, 1, lambda: woken.append(os.getpid())):
            child = os.fork()
            pool.close()
            if child == 0:
                os._exit(len(woken))
            assert os.waitpid(child, 0)[1] == 0
        print(woken == [os.getpid()])
    """
    assert run_python(code) == "True\n"


def test_a_daemon_thread_may_wait_while_the_interpreter_goes_down() -> None:
    code = """
        import threading, time, bytepool
        pool = bytepool.Pool(1024, 1024, max_bytes=1024)
        alloc = pool.allocate(1)

        def work(timeout):
            while True:
                try:
                    pool.allocate(1, timeout=timeout)
                except bytepool.PoolExhaustedError:
                    pass

        for timeout in (0.001, 0.002, None):
            threading.Thread(target=work, args=[timeout], daemon=True).start()
        time.sleep(0.05)
        print("end")
    """
    for _ in range(3):
        assert run_python(code) == "end\n"


def busy_elsewhere(*threads: threading.Thread) -> None:
    """Run no Python code in this thread until they are done."""
    for thread in threads:
        thread.join(LATE)
        assert not thread.is_alive()


def test_who_waits_gets_the_views_that_another_thread_let_go_of() -> None:
    pool = tight(1)
    views = [pool.view(1)]
    thread = in_thread(lambda: waiting(pool, 1), views.clear)
    pool.allocate(1, timeout=LATE).release()
    thread.join()


def test_and_those_of_a_thread_that_is_busy_elsewhere() -> None:
    pool = tight(1)
    views = [pool.view(1)]
    waiter = in_thread(lambda: pool.allocate(1, timeout=LATE).release())
    dropper = in_thread(lambda: waiting(pool, 1), lambda: time.sleep(SOON), views.clear)
    busy_elsewhere(waiter, dropper)
    assert pool.stats().outstanding == 0


# asyncio


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_task_waits_while_the_loop_runs_on() -> None:
    async def main() -> None:
        pool = tight(1)
        assert (await pool.allocate_async(7)).size == 7  # there is enough: no wait
        alloc = pool.allocate(1)
        task = asyncio.create_task(pool.allocate_async(2))
        await settle()
        assert not task.done()
        alloc.release()
        got = await asyncio.wait_for(task, LATE)
        assert got.size == 2

    asyncio.run(main())


def test_tasks_are_served_in_their_order() -> None:
    async def main() -> None:
        pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
        out = [pool.allocate(KIB) for _ in range(4)]
        served: list[int] = []

        async def wait_for(n: int) -> None:
            with await pool.allocate_async(n):
                served.append(n)
                await settle()

        sizes = [4 * KIB, 1, 3 * KIB, 2, 3]
        tasks = [asyncio.create_task(wait_for(n)) for n in sizes]
        await settle()
        for alloc in out:
            assert not served
            alloc.release()
            await settle()
        await asyncio.wait_for(asyncio.gather(*tasks), LATE)
        assert served == sizes

    asyncio.run(main())


def test_a_cancelled_task_leaves_the_queue_to_who_comes_next() -> None:
    async def main() -> None:
        pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
        out = [pool.allocate(KIB) for _ in range(4)]
        large = asyncio.create_task(pool.allocate_async(4 * KIB))
        small = asyncio.create_task(pool.allocate_async(1))
        await settle()
        out.pop().release()
        await settle()
        assert not small.done()
        large.cancel()
        assert (await asyncio.wait_for(small, LATE)).size == 1
        assert large.cancelled()

    asyncio.run(main())


def test_a_task_cancelled_when_it_was_just_served_gives_it_back() -> None:
    async def main() -> None:
        for same_class in (True, False):
            pool = Pool(KIB, 2 * KIB, max_bytes=2 * KIB)
            alloc = pool.allocate(2 * KIB if same_class else KIB)
            first = asyncio.create_task(pool.allocate_async(2 * KIB))
            await settle()
            second = asyncio.create_task(pool.allocate_async(2 * KIB))
            await settle()
            alloc.release()  # it is the first one's now, which has not run yet
            first.cancel()
            assert (await asyncio.wait_for(second, LATE)).size == 2 * KIB
            assert first.cancelled()
            assert pool.stats().outstanding == 1

    asyncio.run(main())


def test_asyncio_timeouts_end_the_wait() -> None:
    async def main() -> None:
        pool = tight(1)
        alloc = pool.allocate(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SOON):
                await pool.allocate_async(1)
        alloc.release()
        pool.allocate(1).release()

    asyncio.run(main())


def test_closing_the_pool_wakes_tasks() -> None:
    async def main() -> None:
        pool = tight(1)
        _alloc = pool.allocate(1)
        task = asyncio.create_task(pool.allocate_async(1))
        await settle()
        pool.close()
        with pytest.raises(PoolClosedError):
            await asyncio.wait_for(task, LATE)

    asyncio.run(main())


def test_a_thread_may_release_what_a_task_waits_for_and_the_other_way_round() -> None:
    async def main() -> None:
        pool = tight(1)
        alloc = pool.allocate(1)
        threading.Timer(SOON, alloc.release).start()
        task_has = await asyncio.wait_for(pool.allocate_async(1), LATE)
        thread = asyncio.create_task(asyncio.to_thread(pool.allocate, 1, timeout=LATE))
        await asyncio.sleep(SOON)
        task_has.release()
        (await thread).release()

    asyncio.run(main())


def test_a_task_gets_the_views_that_a_thread_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_budget, "FREE_THREADED", True)  # what it does there works everywhere

    async def main() -> None:
        pool = tight(1)
        views = [pool.view(1)]
        thread = in_thread(lambda: waiting(pool, 1), views.clear)
        alloc = await asyncio.wait_for(pool.allocate_async(1), LATE)
        alloc.release()
        thread.join()

    asyncio.run(main())


def test_a_loop_that_ends_while_a_task_waits_leaves_no_trace() -> None:
    pool = tight(1)
    alloc = pool.allocate(1)

    async def main() -> None:
        asyncio.create_task(pool.allocate_async(1))  # noqa: RUF006
        await settle()

    asyncio.run(main())
    alloc.release()
    pool.allocate(1).release()


def test_a_loop_closed_with_a_task_that_waits_keeps_nobody_else_waiting() -> None:
    pool = tight(1)
    alloc = pool.allocate(1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.allocate_async(1))
    loop.run_until_complete(settle())
    loop.close()
    alloc.release()
    pool.allocate(1, timeout=LATE).release()
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_bad_sizes_are_refused_as_always() -> None:
    async def allocate(n: Any) -> None:
        await tight().allocate_async(n)

    for n, error in ((-1, ValueError), (2**64, OverflowError), ("1", TypeError)):
        with pytest.raises(error):
            asyncio.run(allocate(n))


# Hostile


def test_waking_up_does_not_disturb_an_exception_on_its_way() -> None:
    """Memory may come home while an exception unwinds, and wakes somebody by calling Python."""

    async def main() -> None:
        pool = tight(1)

        holder = [pool.view(1)]
        waiter = asyncio.create_task(pool.allocate_async(1))
        await settle()
        with pytest.raises(TypeError, match="must be real number, not memoryview"):
            math.sqrt(holder.pop())  # type: ignore[arg-type]  # dies after the error was set
        assert (await asyncio.wait_for(waiter, LATE)).size == 1

    asyncio.run(main())


def test_who_releases_at_the_end_of_its_stack_still_wakes_who_waits() -> None:
    async def main() -> None:
        pool = tight(1)
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
            (await asyncio.wait_for(waiter, LATE)).release()

    with unraisable_ignored():
        asyncio.run(main())


@contextlib.contextmanager
def unraisable_ignored() -> Iterator[None]:
    hook, sys.unraisablehook = sys.unraisablehook, lambda _unraisable: None
    try:
        yield
    finally:
        sys.unraisablehook = hook


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_signal_while_somebody_is_woken_is_not_lost_and_neither_is_who_waits() -> None:
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
            loop.slow_callback_duration = 60  # a busy machine is not to be warned of
            loop.call_later(0.05, ready.set)
            with await pool.allocate_async(n):
                got.set()

        thread = threading.Thread(target=lambda: asyncio.run(wait()))
        thread.start()
        ready.wait()
        # While the bytes are zeroed, so that it is handled when somebody is woken.
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
            alloc.release()  # the signal came before it
        print(interrupted, got.wait(5))
        thread.join()
    """
    assert run_python(code) == "True True\n"


def test_a_waker_that_raises_is_reported_and_harms_nobody() -> None:
    code = """
        import sys, time
        from bytepool import Pool
        from bytepool._bytepool import Ticket

        reported = []
        sys.unraisablehook = lambda unraisable: reported.append(unraisable.exc_type)
        pool = Pool(1024, 1024, max_bytes=1024)
        alloc = pool.allocate(1)
        woken = []
        with Ticket(pool, 1, lambda: 1 / 0) as bad:
            with Ticket(pool, 1, lambda: woken.append(1)) as good:
                alloc.release()
                alloc = bad.take()
                alloc.release()
                good.take().release()
        while len(reported) < 2:  # it gets another chance in a thread of its own
            time.sleep(0.001)
        print(reported, woken, pool.stats().outstanding)
    """
    assert run_python(code) == "[<class 'ZeroDivisionError'>, <class 'ZeroDivisionError'>] [1] 0\n"


def test_a_waker_may_use_the_pool() -> None:
    from bytepool._bytepool import Ticket

    pool = tight(2)
    alloc = pool.allocate(1)
    other = pool.allocate(1)
    seen: list[object] = []

    def wake() -> None:
        seen.append(pool.stats().outstanding)
        seen.append(pool.trim())
        with pytest.raises(PoolExhaustedError):
            pool.view(1)

    with Ticket(pool, 1, wake) as ticket:
        alloc.release()
        assert seen == [2, 0]  # what was handed over is out
        ticket.take().release()
        with pytest.raises(PoolClosedError):
            ticket.take()
    other.release()
    assert pool.stats().outstanding == 0


def test_the_interpreter_may_go_down_while_somebody_is_woken_again() -> None:
    """A thread of Rust's did it, which the end of the interpreter made abort the process."""
    code = """
        import sys, time
        from bytepool import Pool
        from bytepool._bytepool import Ticket

        sys.unraisablehook = lambda unraisable: None
        calls = []

        def wake():
            calls.append(len(calls))
            if calls == [0]:
                raise ValueError
            for _ in range(1000):
                time.sleep(0.0005)  # it is let go, and taken again while the interpreter goes down

        class Last:
            def __del__(self, sleep=time.sleep):
                sleep(0.1)

        last = Last()
        pool = Pool(64, 64, max_bytes=64)
        alloc = pool.allocate(64)
        ticket = Ticket(pool, 64, wake)
        alloc.release()
        while len(calls) < 2:
            time.sleep(0.01)
        print("end")
    """
    assert run_python(code) == "end\n"
