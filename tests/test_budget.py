"""``max_bytes``: the budget of a pool, and what exceeds it."""

from __future__ import annotations

import asyncio
import random
import time
from typing import TYPE_CHECKING, Any

import pytest
from helpers import KIB, LONG, SHORT, budget_pool, held_bytes, start_thread

from bytepool import Pool, PoolExhaustedError

if TYPE_CHECKING:
    from collections.abc import Callable


def test_exhausted_budget_raises_memory_error_with_the_numbers() -> None:
    pool = budget_pool(4)
    in_use = [pool.view(1000) for _ in range(4)]
    refusals: tuple[Callable[[int], object], ...] = (
        pool.view,
        pool.allocate,
        pool.allocator().allocate,
    )
    for refused in refusals:
        with pytest.raises(PoolExhaustedError, match=r"1024 bytes .*4096 of 4096 .*0 waiters"):
            refused(1)
    assert issubclass(PoolExhaustedError, MemoryError)
    assert pool.stats().outstanding == 4
    in_use.pop()
    assert pool.view(1).nbytes == 1


def test_budget_bounds_bytes_in_use_and_idle_together() -> None:
    pool = Pool(KIB, 16 * KIB, max_bytes=16 * KIB)
    choose = random.Random(1)
    in_use: list[memoryview] = []
    refused = 0
    for _ in range(2000):
        if in_use and choose.random() < 0.5:
            in_use.pop(choose.randrange(len(in_use)))
        else:
            try:
                in_use.append(pool.view(choose.randrange(20 * KIB)))
            except PoolExhaustedError:
                refused += 1
        assert held_bytes(pool) <= 16 * KIB
    assert refused > 100


def test_idle_memory_is_evicted_for_a_request_within_the_budget() -> None:
    pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
    views = [pool.view(KIB) for _ in range(4)]
    views.clear()
    assert pool.stats().idle_bytes == 4 * KIB
    with pool.allocate(4 * KIB):
        (small, large) = pool.stats().buckets
        assert (small.capped, small.depth, large.outstanding) == (4, 0, 1)


def test_transient_requests_count_against_the_budget() -> None:
    pool = Pool(KIB, KIB, max_bytes=10_000)
    view = pool.view(9_000)
    with pytest.raises(PoolExhaustedError):
        pool.view(1)
    del view
    assert pool.view(1).nbytes == 1


@pytest.mark.parametrize("options", [{}, {"timeout": 5}, {"timeout": None}])
def test_request_above_the_whole_budget_raises_immediately(options: dict[str, Any]) -> None:
    pool = Pool(KIB, 64 * KIB, max_bytes=10 * KIB)
    for n in (10 * KIB + 1, 1 << 30):
        with pytest.raises(PoolExhaustedError, match=rf"{n} bytes .* whole budget is 10240"):
            pool.allocate(n, **options)

    async def allocate() -> None:
        await pool.allocate_async(11 * KIB)

    with pytest.raises(PoolExhaustedError, match="whole budget"):
        asyncio.run(allocate())
    assert pool.view(8 * KIB).nbytes == 8 * KIB


def test_every_size_up_to_the_budget_can_be_had() -> None:
    pool = Pool(max_size=16 << 20, max_bytes=10 << 20)
    for n in (9 << 20, 10 << 20):
        pool.view(n)
    assert (pool.stats().transient, pool.max_size) == (0, 16 << 20)
    assert Pool(max_bytes=100).view(100).nbytes == 100
    assert Pool(max_bytes=0).view(0).nbytes == 0


def test_null_pool_from_the_environment_keeps_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTEPOOL", "null")
    pool = budget_pool(1)
    assert repr(pool) == repr(Pool.null(KIB, KIB, max_bytes=KIB))
    alloc = pool.allocate(KIB)
    with pytest.raises(PoolExhaustedError):
        pool.view(1)
    thread = start_thread(lambda: time.sleep(SHORT), alloc.release)
    pool.allocate(KIB, timeout=LONG).release()
    thread.join()
