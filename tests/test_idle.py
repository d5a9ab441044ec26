"""What lies idle: how much, for how long, and how it goes."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

import pytest
from helpers import run_python

import bytepool
from bytepool import Pool, PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

KIB = 1 << 10


def fill(pool: Pool, *sizes: int) -> None:
    """Leave a buffer of each size idle, as far as the pool keeps them."""
    views = [pool.view(n) for n in sizes]
    while views:
        views.pop(0)


def idle(pool: Pool) -> dict[int, int]:
    return {bucket.size: bucket.depth for bucket in pool.stats().buckets if bucket.depth}


def freed(pool: Pool, reason: str) -> int:
    return sum(getattr(bucket, reason) for bucket in pool.stats().buckets)


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


# max_idle_bytes


def test_what_exceeds_max_idle_bytes_is_freed_and_counted() -> None:
    pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=8 * KIB)
    fill(pool, *[KIB] * 12)
    assert idle(pool) == {KIB: 8}
    assert (freed(pool, "capped"), freed(pool, "discarded")) == (4, 0)
    assert pool.stats().idle_bytes == pool.max_idle_bytes


def test_the_bound_is_the_whole_pools_and_not_a_buckets() -> None:
    pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=8 * KIB)
    fill(pool, *[KIB] * 4, *[2 * KIB] * 4, *[4 * KIB] * 4)
    assert 0 < pool.stats().idle_bytes <= 8 * KIB


def test_what_nobody_has_needed_makes_room_the_largest_first() -> None:
    pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=16 * KIB)
    fill(pool, *[KIB] * 4, 8 * KIB, 4 * KIB)
    assert pool.stats().idle_bytes == 16 * KIB
    fill(pool, 2 * KIB)  # at first all may be in use, and the newcomer goes
    assert idle(pool) == {KIB: 4, 4 * KIB: 1, 8 * KIB: 1}
    fill(pool, 8 * KIB, KIB, KIB)  # those are
    fill(pool, 2 * KIB)
    assert idle(pool) == {KIB: 4, 2 * KIB: 1, 8 * KIB: 1}
    fill(pool, 2 * KIB, 2 * KIB, 2 * KIB)
    assert idle(pool) == {KIB: 2, 2 * KIB: 3, 8 * KIB: 1}
    assert freed(pool, "capped") == 1 + 1 + 2


def test_what_is_in_use_stays_and_the_newcomer_goes() -> None:
    pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=8 * KIB)
    for _ in range(10):
        fill(pool, *[KIB] * 8)
        fill(pool, 8 * KIB)
    assert idle(pool) == {KIB: 8}
    assert freed(pool, "capped") == 10


def test_room_that_a_class_does_not_use_goes_to_the_others() -> None:
    pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=16 * KIB)
    fill(pool, *[KIB] * 16)
    held = [pool.view(KIB) for _ in range(16)]
    fill(pool, *[4 * KIB] * 4)
    assert idle(pool) == {4 * KIB: 4}
    held.clear()  # comes home to no room; the first one finds all in use
    assert idle(pool) == {KIB: 15}
    assert freed(pool, "capped") == 1 + 4


def test_nothing_is_kept_where_nothing_may_be() -> None:
    pool = Pool(max_idle_bytes=0)
    fill(pool, 1, 5000, 1 << 20)
    assert (pool.stats().idle_bytes, freed(pool, "capped")) == (0, 3)


def test_a_giant_burst_leaves_no_more_than_the_default() -> None:
    pool = Pool()
    fill(pool, *[16 << 20] * 16)
    assert 0 < pool.stats().idle_bytes <= 64 << 20


# trim


def test_trim_frees_idle_memory_and_says_how_much() -> None:
    pool = Pool(KIB, 64 * KIB)
    out = pool.view(KIB)
    fill(pool, *[KIB] * 3, *[64 * KIB] * 2)
    assert pool.trim() == 3 * KIB + 2 * 64 * KIB
    assert (pool.stats().idle_bytes, freed(pool, "trimmed"), pool.trim()) == (0, 5, 0)
    out[:] = b"x" * KIB
    del out
    assert idle(pool) == {KIB: 1}


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (1 << 30, {KIB: 3, 64 * KIB: 2}),
        (131 * KIB, {KIB: 3, 64 * KIB: 2}),
        (131 * KIB - 1, {KIB: 3, 64 * KIB: 1}),
        (3 * KIB, {KIB: 3}),
        (2 * KIB, {KIB: 2}),
        (1, {}),
    ],
)
def test_trim_keeps_what_it_is_told_and_frees_the_largest_first(
    keep: int, left: dict[int, int]
) -> None:
    pool = Pool(KIB, 64 * KIB)
    fill(pool, *[KIB] * 3, *[64 * KIB] * 2)
    before = pool.stats().idle_bytes
    assert pool.trim(keep) == before - pool.stats().idle_bytes
    assert idle(pool) == left


def test_trim_frees_the_oldest_and_keeps_the_newest() -> None:
    pool = Pool(KIB, KIB)
    for stamp in (b"1", b"2", b"3"):
        views = [pool.view(KIB) for _ in range(3)]
        for view in views:
            view[:1] = stamp
        del view
        views.clear()
    pool.trim(keep_bytes=KIB)
    assert bytes(pool.view(1)) == b"3"


@pytest.mark.parametrize(
    ("keep", "error"), [(-1, ValueError), (2**64, OverflowError), (1.5, TypeError)]
)
def test_trim_refuses_what_is_no_size(keep: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        Pool().trim(keep)


def test_a_bucket_of_many_is_trimmed_whole() -> None:
    pool = Pool(KIB, KIB, 5000)
    fill(pool, *[KIB] * 5000)
    assert pool.trim() == 5000 * KIB


# close


def test_close_frees_all_and_refuses_from_then_on(pool: Pool) -> None:
    view, alloc, empty = pool.view(100), pool.allocate(100), pool.allocator()
    fill(pool, 64, 4096)
    assert not pool.closed
    pool.close()
    assert pool.closed
    assert pool.stats().idle_bytes == 0
    for refused in (pool.view, pool.allocate, empty.allocate):
        for n in (0, 100, 1 << 20):
            with pytest.raises(PoolClosedError, match=rf"closed.*\b{n}\b"):
                refused(n)
    # What is out stays valid, and is freed when it comes home.
    view[:] = b"v" * 100
    alloc.bytes()[:] = b"a" * 100
    assert (bytes(view), bytes(alloc.bytes())) == (b"v" * 100, b"a" * 100)
    alloc.release()
    del view
    stats = pool.stats()
    assert (stats.outstanding, stats.idle_bytes) == (0, 0)
    pool.close()
    assert (pool.trim(), pool.decay()) == (0, 0)


def test_what_is_idle_or_comes_home_to_a_closed_pool_is_counted() -> None:
    pool = Pool(KIB, KIB)
    out = pool.view(1)
    fill(pool, 1, 1)
    pool.close()
    assert freed(pool, "closed") == 2
    del out
    assert freed(pool, "closed") == 3


def test_with_closes_the_pool() -> None:
    with Pool() as pool:
        pool.view(100)
        assert pool.stats().idle_bytes
    assert pool.closed
    assert pool.stats().idle_bytes == 0
    with pytest.raises(ZeroDivisionError), Pool() as pool:
        1 / 0  # noqa: B018
    assert pool.closed


def test_closed_is_a_misuse() -> None:
    assert issubclass(PoolClosedError, bytepool.MisuseError)


# decay


def test_what_was_not_needed_for_idle_timeout_goes() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)
    fill(pool, *[1] * 4)
    assert pool.decay() == 0  # it came home just now
    assert eventually(lambda: freed(pool, "decayed") > 0 or pool.decay() > 0)
    assert (idle(pool), freed(pool, "decayed")) == ({}, 4)


def test_what_is_needed_stays() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0)
    fill(pool, *[1] * 4)
    for _ in range(3):
        pool.decay()
        fill(pool, 1, 1)
    assert idle(pool) == {KIB: 2}


def test_without_a_timeout_nothing_decays() -> None:
    pool = Pool(KIB, KIB, idle_timeout=None)
    fill(pool, 1)
    assert (pool.decay(), pool.decay(), idle(pool)) == (0, 0, {KIB: 1})


def test_it_acts_no_more_often_than_the_timeout() -> None:
    pool = Pool(KIB, KIB, idle_timeout=3600)
    fill(pool, 1)
    assert {pool.decay() for _ in range(100)} == {0}


def test_the_garbage_collector_does_it_without_further_calls_to_the_pool() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)
    fill(pool, *[1] * 4)

    def other_work() -> bool:
        _garbage = [[] for _ in range(10_000)]  # type: ignore[var-annotated]
        return pool.stats().idle_bytes == 0

    assert eventually(other_work)
    assert freed(pool, "decayed") == 4


def test_a_pool_in_use_does_it_without_a_collector() -> None:
    pool = Pool(KIB, 64 * KIB, idle_timeout=0.01)
    gc.disable()  # as good as off where code frees as many objects as it makes
    try:
        fill(pool, *[64 * KIB] * 4)

        def other_work() -> bool:
            for _ in range(1024):
                pool.allocate(KIB).release()
            return not pool.stats().buckets[-1].depth

        assert eventually(other_work)
    finally:
        gc.enable()
    assert idle(pool) == {KIB: 1}
    assert freed(pool, "decayed") == 4


def test_the_collector_has_one_callback_however_many_pools_there_are() -> None:
    Pool()
    callbacks = list(gc.callbacks)
    pools = [Pool() for _ in range(10)]
    assert gc.callbacks == callbacks
    alive = [weakref.ref(pool) for pool in pools]
    out = pools[0].view(100)
    pools.clear()
    gc.collect()
    assert [ref() for ref in alive] == [None] * 10
    del out


def test_somebody_may_clear_the_collectors_callbacks() -> None:
    before = list(gc.callbacks)
    pool = Pool(KIB, KIB, idle_timeout=0)
    try:
        gc.callbacks.clear()
        del pool
        pool = Pool(KIB, KIB, idle_timeout=0)
        fill(pool, 1)
        for _ in range(3):
            gc.collect()
        assert idle(pool) == {}
    finally:
        gc.callbacks[:] = before


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupt_while_the_collector_runs_is_not_lost() -> None:
    """Code of ours that the collector calls must not be what handles the signal."""
    code = """
        import gc, os, signal, threading, time, bytepool
        signal.signal(signal.SIGINT, signal.default_int_handler)
        pool = bytepool.Pool(idle_timeout=0)
        for _ in range(2_000):
            knot = []
            knot.append([knot])
        interrupted = 0
        for _ in range(5):
            garbage = [[] for _ in range(300_000)]
            kill = lambda: (time.sleep(0.002), os.kill(os.getpid(), signal.SIGINT))
            thread = threading.Thread(target=kill)
            try:
                thread.start()
                while True:
                    gc.collect()
            except KeyboardInterrupt:
                interrupted += 1
            thread.join()
        print(interrupted)
    """
    assert run_python(code) == "5\n"


def test_a_timer_of_the_event_loop_does_it_while_all_is_quiet() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)

    async def serve() -> None:
        gc.disable()  # shows that it is the timer's work
        with bytepool.decay.in_loop(pool):
            fill(pool, *[1] * 4)
            for _ in range(200):
                await asyncio.sleep(0.05)
                if not pool.stats().idle_bytes:
                    break
            tasks = len(asyncio.all_tasks())
            assert tasks == 1

    try:
        asyncio.run(serve())
    finally:
        gc.enable()
    assert (idle(pool), freed(pool, "decayed")) == ({}, 4)


@pytest.mark.thread_unsafe(reason="it counts the threads of the process")
def test_a_thread_does_it_while_all_is_quiet() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)
    gc.disable()
    try:
        with bytepool.decay.in_thread(pool):
            fill(pool, *[1] * 4)
            assert eventually(lambda: pool.stats().idle_bytes == 0)
    finally:
        gc.enable()
    assert freed(pool, "decayed") == 4
    assert "bytepool.decay" not in {thread.name for thread in threading.enumerate()}


def test_what_was_opted_into_ends_with_its_block() -> None:
    pool = Pool(idle_timeout=0.01)
    alive = weakref.ref(pool)

    async def serve(pool: Pool) -> None:
        with bytepool.decay.in_loop(pool):
            await asyncio.sleep(0.05)

    asyncio.run(serve(pool))
    with bytepool.decay.in_thread(pool):
        pass
    del pool
    gc.collect()  # a function that refers to itself is a cycle
    assert alive() is None


def test_opting_in_needs_a_loop_and_a_timeout() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        bytepool.decay.in_loop(Pool()).__enter__()

    async def in_loop() -> None:
        bytepool.decay.in_loop(Pool(idle_timeout=None)).__enter__()

    with pytest.raises(ValueError, match=r"idle_timeout=None.*kept for ever"):
        asyncio.run(in_loop())
    with pytest.raises(ValueError, match=r"idle_timeout=None.*kept for ever"):
        bytepool.decay.in_thread(Pool(idle_timeout=None)).__enter__()


def test_importing_bytepool_and_making_a_pool_imports_no_asyncio_and_starts_no_thread() -> None:
    code = """
        import sys, threading, bytepool
        pool = bytepool.Pool(); pool.view(100); pool.close()
        print("asyncio" in sys.modules, threading.active_count())
    """
    assert run_python(code) == "False 1\n"


def test_pools_that_come_and_go_are_forgotten_though_the_collector_never_runs() -> None:
    """The collector's list of pools kept a weak reference to each until it ran."""
    gc.collect()
    gc.disable()
    try:
        Pool()
        before = sys.getallocatedblocks()
        for _ in range(5000):
            Pool(64, 64, 0)
        assert sys.getallocatedblocks() - before < 1000
    finally:
        gc.enable()
