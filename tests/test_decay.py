"""``idle_timeout``: unused idle memory is freed, by whatever runs in the process."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref

import pytest
from helpers import KIB, eventually, fill, freed, idle, run_python

import bytepool
from bytepool import Pool


def test_memory_idle_for_the_timeout_is_freed() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)
    fill(pool, *[1] * 4)
    assert pool.decay() == 0  # the buffers were returned just now
    assert eventually(lambda: freed(pool, "decayed") > 0 or pool.decay() > 0)
    assert (idle(pool), freed(pool, "decayed")) == ({}, 4)


def test_used_buffers_do_not_decay() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0)
    fill(pool, *[1] * 4)
    for _ in range(3):
        pool.decay()
        fill(pool, 1, 1)
    assert idle(pool) == {KIB: 2}


def test_no_timeout_means_no_decay() -> None:
    pool = Pool(KIB, KIB, idle_timeout=None)
    fill(pool, 1)
    assert (pool.decay(), pool.decay(), idle(pool)) == (0, 0, {KIB: 1})


def test_decay_acts_once_per_timeout() -> None:
    pool = Pool(KIB, KIB, idle_timeout=3600)
    fill(pool, 1)
    assert {pool.decay() for _ in range(100)} == {0}


def test_garbage_collector_runs_decay_without_calls_to_the_pool() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)
    fill(pool, *[1] * 4)

    def other_work() -> bool:
        _garbage = [[] for _ in range(10_000)]  # type: ignore[var-annotated]
        return pool.stats().idle_bytes == 0

    assert eventually(other_work)
    assert freed(pool, "decayed") == 4


def test_returned_buffers_run_decay_without_the_garbage_collector() -> None:
    pool = Pool(KIB, 64 * KIB, idle_timeout=0.01)
    gc.disable()  # stands for code that frees as many objects as it creates
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


def test_all_pools_share_one_garbage_collector_callback() -> None:
    Pool()
    callbacks = list(gc.callbacks)
    pools = [Pool() for _ in range(10)]
    assert gc.callbacks == callbacks
    alive = [weakref.ref(pool) for pool in pools]
    in_use = pools[0].view(100)
    pools.clear()
    gc.collect()
    assert [ref() for ref in alive] == [None] * 10
    del in_use


def test_decay_survives_a_cleared_gc_callbacks_list() -> None:
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
def test_interrupt_during_garbage_collection_is_not_lost() -> None:
    """The callback in ``gc.callbacks`` must not handle the signal: the collector drops errors."""
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


def test_in_loop_runs_decay_while_the_process_is_idle() -> None:
    pool = Pool(KIB, KIB, idle_timeout=0.05)

    async def serve() -> None:
        gc.disable()  # so that only the timer can do it
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
def test_in_thread_runs_decay_while_the_process_is_idle() -> None:
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


def test_in_loop_and_in_thread_stop_at_the_end_of_their_block() -> None:
    pool = Pool(idle_timeout=0.01)
    alive = weakref.ref(pool)

    async def serve(pool: Pool) -> None:
        with bytepool.decay.in_loop(pool):
            await asyncio.sleep(0.05)

    asyncio.run(serve(pool))
    with bytepool.decay.in_thread(pool):
        pass
    del pool
    gc.collect()  # the timer callback refers to itself
    assert alive() is None


def test_in_loop_and_in_thread_need_a_timeout_and_in_loop_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        bytepool.decay.in_loop(Pool()).__enter__()

    async def in_loop() -> None:
        bytepool.decay.in_loop(Pool(idle_timeout=None)).__enter__()

    with pytest.raises(ValueError, match=r"idle_timeout=None.*keeps idle memory"):
        asyncio.run(in_loop())
    with pytest.raises(ValueError, match=r"idle_timeout=None.*keeps idle memory"):
        bytepool.decay.in_thread(Pool(idle_timeout=None)).__enter__()


def test_import_and_pool_load_no_asyncio_and_start_no_thread() -> None:
    code = """
        import sys, threading, bytepool
        pool = bytepool.Pool(); pool.view(100); pool.close()
        print("asyncio" in sys.modules, threading.active_count())
    """
    assert run_python(code) == "False 1\n"


def test_dropped_pools_are_forgotten_without_the_garbage_collector() -> None:
    """The list of pools behind the callback drops dead entries whenever it would grow."""
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
