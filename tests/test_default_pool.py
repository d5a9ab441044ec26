"""``default_pool()``: one pool per process, for every caller that gives none."""

from __future__ import annotations

import pytest
from helpers import run_python

import bytepool


def test_every_call_returns_the_same_pool() -> None:
    pool = bytepool.default_pool()
    assert pool is bytepool.default_pool()
    assert pool.name == pool.stats().name == "default"
    assert pool.max_size == bytepool.Pool().max_size


@pytest.mark.thread_unsafe(reason="its threads would share the default pool, and it counts")
def test_default_pool_can_be_observed_tracked_and_trimmed() -> None:
    pool = bytepool.default_pool()
    pool.trim()
    before = pool.stats()
    pool.track = "all"
    view = pool.view(100_000)
    assert [record.size for record in pool.tracked()] == [100_000]
    pool.track = "off"
    del view
    assert (pool.stats() - before).idle_bytes == 131_072
    assert pool.trim() == 131_072


def test_default_pool_obeys_the_environment() -> None:
    code = """
        import os
        os.environ.update(BYTEPOOL="null", BYTEPOOL_TRACK="sampled")
        import bytepool
        print(bytepool.default_pool(), bytepool.default_pool().track)
    """
    assert (
        run_python(code)
        == "Pool.null(min_size=4096, max_size=16777216, max_buffers=16, name='default') sampled\n"
    )


def test_importing_bytepool_creates_no_pool() -> None:
    code = """
        import bytepool, gc
        print([found for found in gc.get_objects() if type(found) is bytepool.Pool])
        print(gc.callbacks)
    """
    assert run_python(code) == "[]\n[]\n"


def test_threads_that_race_for_the_first_call_get_the_same_pool() -> None:
    code = """
        import gc, sys, threading
        import bytepool
        sys.setswitchinterval(1e-6)
        barrier, pools = threading.Barrier(8), []
        class CallsInFinalizer:
            def __del__(self):
                pools.append(bytepool.default_pool())
        def work():
            cycle = [CallsInFinalizer()]
            cycle.append(cycle)
            barrier.wait()
            pools.append(bytepool.default_pool())
        gc.set_threshold(1)  # collects in the middle of the call
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        gc.collect()
        print(len(set(pools)), len(pools))
    """
    assert run_python(code) == "1 16\n"
