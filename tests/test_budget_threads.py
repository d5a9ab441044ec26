"""Threads that wait for the budget: ``allocate(n, timeout=)``."""

from __future__ import annotations

import math
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from helpers import (
    KIB,
    LONG,
    SHORT,
    budget_pool,
    held_bytes,
    run_python,
    start_thread,
    wait_for_waiters,
)

from bytepool import Allocator, Pool, PoolClosedError, PoolExhaustedError


def test_thread_waits_until_another_thread_releases() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)
    got: list[Allocator] = []
    thread = start_thread(lambda: got.append(pool.allocate(2, timeout=LONG)))
    wait_for_waiters(pool, 1)
    assert not got
    alloc.release()
    thread.join(LONG)
    assert got[0].size == 2


def test_view_waits_as_allocate_does() -> None:
    pool = budget_pool(1)
    views = [pool.view(1)]
    with pytest.raises(PoolExhaustedError):
        pool.view(1)
    with pytest.raises(PoolExhaustedError):
        pool.view(1, timeout=SHORT)
    thread = start_thread(lambda: wait_for_waiters(pool, 1), views.clear)
    assert len(pool.view(7, timeout=LONG)) == 7
    thread.join()


@pytest.mark.parametrize("timeout", [None, LONG, math.inf, 1e300])
def test_timeout_may_be_none_or_infinite(timeout: float | None) -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)
    thread = start_thread(lambda: wait_for_waiters(pool, 1), alloc.release)
    reused = pool.allocator()
    assert len(reused.allocate(7, timeout=timeout)) == 7
    thread.join()


def test_expired_timeout_raises_and_leaves_the_queue() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)
    begin = time.monotonic()
    with pytest.raises(PoolExhaustedError):
        pool.allocate(1, timeout=SHORT)
    assert time.monotonic() - begin >= SHORT
    alloc.release()
    pool.allocate(1).release()
    assert pool.stats().outstanding == 0


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (-math.inf, ValueError), (math.nan, ValueError), ("1", TypeError)],
)
def test_invalid_timeout_raises(timeout: Any, error: type[Exception]) -> None:
    for refuse in (Pool().allocate, Pool().allocator().allocate):
        with pytest.raises(error, match=r"timeout must be|must be real number"):
            refuse(1, timeout=timeout)


def test_waiters_are_served_in_order_and_never_overtaken() -> None:
    """Small requests do not starve a large one, whether they wait or not."""
    pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
    in_use = [pool.allocate(KIB) for _ in range(4)]
    served: list[int] = []

    def hold(n: int) -> None:
        with pool.allocate(n, timeout=LONG):
            served.append(n)

    threads = []
    for position, n in enumerate([4 * KIB, 1, 4 * KIB, 2]):
        threads.append(start_thread(lambda n=n: hold(n)))  # type: ignore[misc]
        wait_for_waiters(pool, position + 1)
    for alloc in in_use[:3]:
        alloc.release()
        with pytest.raises(PoolExhaustedError, match="4 waiters"):
            pool.view(1)  # fits, but waiters come first
        assert pool.stats().idle_bytes == 0
    assert not served
    in_use[3].release()
    for thread in threads:
        thread.join(LONG)
    assert served == [4 * KIB, 1, 4 * KIB, 2]
    assert (pool.stats().outstanding, held_bytes(pool) <= 4 * KIB) == (0, True)


def test_released_buffer_is_passed_to_a_waiter_without_being_freed() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(5)
    alloc.bytes()[:] = b"hello"
    thread = start_thread(lambda: wait_for_waiters(pool, 1), alloc.release)
    assert bytes(pool.allocate(5, timeout=LONG).bytes()) == b"hello"
    thread.join()
    (bucket,) = pool.stats().buckets
    assert (bucket.hits, bucket.misses, bucket.freed) == (1, 1, 0)


def test_close_wakes_waiting_threads() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)
    with ThreadPoolExecutor() as threads:
        waiters = [threads.submit(pool.allocate, 1, timeout=None) for _ in range(3)]
        wait_for_waiters(pool, 3)
        pool.close()
        for waiter in waiters:
            with pytest.raises(PoolClosedError):
                waiter.result(LONG)
    alloc.release()
    assert held_bytes(pool) == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.thread_unsafe(reason="signals are for the main thread")
def test_signal_interrupts_a_wait_without_losing_memory() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)
    # A process in the background may have inherited a handler that ignores the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread = start_thread(
            lambda: wait_for_waiters(pool, 1), lambda: os.kill(os.getpid(), signal.SIGINT)
        )
        with pytest.raises(KeyboardInterrupt):
            pool.allocate(1, timeout=LONG)
        thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    alloc.release()
    pool.allocate(1).release()


def test_many_threads_never_exceed_a_small_budget() -> None:
    """Every request is served, and no buffer is lost."""
    pool = Pool(KIB, 8 * KIB, max_bytes=16 * KIB)
    over = threading.Event()

    def work(seed: int) -> int:
        choose = random.Random(seed)
        for _ in range(200):
            n = choose.randrange(10 * KIB)
            with pool.allocate(n, timeout=LONG) as alloc:
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
    # A snapshot reads one size class after another, so a buffer may count twice.
    assert most.result() <= 2 * 16 * KIB
    assert (pool.stats().outstanding, held_bytes(pool) <= 16 * KIB) == (0, True)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_forked_child_ignores_the_waiters_of_its_parent() -> None:
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
                if ", 1 waiters" in str(error):
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
def test_close_in_a_forked_child_wakes_no_waiter_of_the_parent() -> None:
    code = """
        import os, warnings, bytepool
        from bytepool._bytepool import Waiter
        pool = bytepool.Pool(1024, 1024, max_bytes=1024)
        alloc = pool.allocate(1)
        woken = []
        with Waiter(pool, 1, lambda: woken.append(os.getpid())):
            child = os.fork()
            pool.close()
            if child == 0:
                os._exit(len(woken))
            assert os.waitpid(child, 0)[1] == 0
        print(woken == [os.getpid()])
    """
    assert run_python(code) == "True\n"


def test_daemon_thread_may_wait_while_the_interpreter_shuts_down() -> None:
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


def block_until_done(*threads: threading.Thread) -> None:
    """Run no Python code in this thread until these threads end."""
    for thread in threads:
        thread.join(LONG)
        assert not thread.is_alive()


def test_waiting_thread_gets_memory_from_views_dropped_in_another_thread() -> None:
    pool = budget_pool(1)
    views = [pool.view(1)]
    thread = start_thread(lambda: wait_for_waiters(pool, 1), views.clear)
    pool.allocate(1, timeout=LONG).release()
    thread.join()


def test_waiting_thread_gets_memory_from_views_that_a_blocked_thread_created() -> None:
    pool = budget_pool(1)
    views = [pool.view(1)]
    waiter = start_thread(lambda: pool.allocate(1, timeout=LONG).release())
    dropper = start_thread(
        lambda: wait_for_waiters(pool, 1), lambda: time.sleep(SHORT), views.clear
    )
    block_until_done(waiter, dropper)
    assert pool.stats().outstanding == 0
