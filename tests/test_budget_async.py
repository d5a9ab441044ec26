"""Tasks that wait for the budget: ``allocate_async``."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from helpers import KIB, LONG, SHORT, budget_pool, settle, start_thread, wait_for_waiters

from bytepool import Pool, PoolClosedError, _budget


def test_task_waits_without_blocking_the_event_loop() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        assert (await pool.allocate_async(7)).size == 7  # the budget suffices, so there is no wait
        alloc = pool.allocate(1)
        task = asyncio.create_task(pool.allocate_async(2))
        await settle()
        assert not task.done()
        alloc.release()
        got = await asyncio.wait_for(task, LONG)
        assert got.size == 2

    asyncio.run(main())


def test_waiting_tasks_are_served_in_order() -> None:
    async def main() -> None:
        pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
        in_use = [pool.allocate(KIB) for _ in range(4)]
        served: list[int] = []

        async def hold(n: int) -> None:
            with await pool.allocate_async(n):
                served.append(n)
                await settle()

        sizes = [4 * KIB, 1, 3 * KIB, 2, 3]
        tasks = [asyncio.create_task(hold(n)) for n in sizes]
        await settle()
        for alloc in in_use:
            assert not served
            alloc.release()
            await settle()
        await asyncio.wait_for(asyncio.gather(*tasks), LONG)
        assert served == sizes

    asyncio.run(main())


def test_cancelled_task_leaves_the_queue_to_the_next_waiter() -> None:
    async def main() -> None:
        pool = Pool(KIB, 4 * KIB, max_bytes=4 * KIB)
        in_use = [pool.allocate(KIB) for _ in range(4)]
        large = asyncio.create_task(pool.allocate_async(4 * KIB))
        small = asyncio.create_task(pool.allocate_async(1))
        await settle()
        in_use.pop().release()
        await settle()
        assert not small.done()
        large.cancel()
        assert (await asyncio.wait_for(small, LONG)).size == 1
        assert large.cancelled()

    asyncio.run(main())


def test_task_cancelled_after_its_grant_returns_the_memory() -> None:
    async def main() -> None:
        for same_class in (True, False):
            pool = Pool(KIB, 2 * KIB, max_bytes=2 * KIB)
            alloc = pool.allocate(2 * KIB if same_class else KIB)
            first = asyncio.create_task(pool.allocate_async(2 * KIB))
            await settle()
            second = asyncio.create_task(pool.allocate_async(2 * KIB))
            await settle()
            alloc.release()  # grants the memory to the first task, which has not run yet
            first.cancel()
            assert (await asyncio.wait_for(second, LONG)).size == 2 * KIB
            assert first.cancelled()
            assert pool.stats().outstanding == 1

    asyncio.run(main())


def test_asyncio_timeout_ends_a_wait() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        alloc = pool.allocate(1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await pool.allocate_async(1)
        alloc.release()
        pool.allocate(1).release()

    asyncio.run(main())


def test_close_wakes_waiting_tasks() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        _alloc = pool.allocate(1)
        task = asyncio.create_task(pool.allocate_async(1))
        await settle()
        pool.close()
        with pytest.raises(PoolClosedError):
            await asyncio.wait_for(task, LONG)

    asyncio.run(main())


def test_threads_and_tasks_wait_for_each_other() -> None:
    async def main() -> None:
        pool = budget_pool(1)
        alloc = pool.allocate(1)
        threading.Timer(SHORT, alloc.release).start()
        task_has = await asyncio.wait_for(pool.allocate_async(1), LONG)
        thread = asyncio.create_task(asyncio.to_thread(pool.allocate, 1, timeout=LONG))
        await asyncio.sleep(SHORT)
        task_has.release()
        (await thread).release()

    asyncio.run(main())


def test_waiting_task_gets_memory_from_views_dropped_in_a_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_budget, "FREE_THREADED", True)  # that code works on every build

    async def main() -> None:
        pool = budget_pool(1)
        views = [pool.view(1)]
        thread = start_thread(lambda: wait_for_waiters(pool, 1), views.clear)
        alloc = await asyncio.wait_for(pool.allocate_async(1), LONG)
        alloc.release()
        thread.join()

    asyncio.run(main())


def test_event_loop_that_ends_while_a_task_waits_leaves_no_waiter() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)

    async def main() -> None:
        asyncio.create_task(pool.allocate_async(1))  # noqa: RUF006
        await settle()

    asyncio.run(main())
    alloc.release()
    pool.allocate(1).release()


def test_closed_event_loop_with_a_waiting_task_does_not_block_other_waiters() -> None:
    pool = budget_pool(1)
    alloc = pool.allocate(1)
    loop = asyncio.new_event_loop()
    task = loop.create_task(pool.allocate_async(1))
    loop.run_until_complete(settle())
    loop.close()
    alloc.release()
    pool.allocate(1, timeout=LONG).release()
    assert not task.done()
    task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_allocate_async_raises_for_invalid_sizes() -> None:
    async def allocate(n: Any) -> None:
        await budget_pool().allocate_async(n)

    for n, error in ((-1, ValueError), (2**64, OverflowError), ("1", TypeError)):
        with pytest.raises(error):
            asyncio.run(allocate(n))


def test_allocate_async_without_asyncio_says_so_on_the_first_call() -> None:
    """A task of trio runs the coroutine in the same way, without an event loop of asyncio."""
    pool = budget_pool(1)
    coroutine = pool.allocate_async(1)
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        coroutine.send(None)
    assert pool.stats().outstanding == 0
