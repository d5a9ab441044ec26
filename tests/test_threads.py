"""Threads share pools, allocators and views. Contents and counters are checked."""

from __future__ import annotations

import gc
import random
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

import bytepool
from bytepool import Pool, tracking

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 6
GIL = getattr(sys, "_is_gil_enabled", lambda: True)()


@pytest.fixture(autouse=True)
def _switch_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None]) -> None:
    """Run ``work(0)``, ``work(1)``... in threads, and raise the first error of any of them."""
    start = threading.Barrier(THREADS)
    failures: list[BaseException] = []

    def run(index: int) -> None:
        try:
            start.wait()
            work(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_conservation(pool: Pool, served: int) -> None:
    give_up = time.monotonic() + 10
    while not GIL and pool.stats().outstanding and time.monotonic() < give_up:
        time.sleep(0.01)  # without a GIL, CPython frees an object in the thread that created it
    stats = pool.stats()
    assert sum(b.hits + b.misses for b in stats.buckets) + stats.transient == served
    assert (stats.outstanding, stats.outstanding_bytes) == (0, 0)
    for bucket in stats.buckets:
        assert bucket.hits + bucket.misses == bucket.returned
        assert bucket.returned - bucket.freed - bucket.hits == bucket.depth


def test_threads_share_a_pool(pool: Pool) -> None:
    rounds = 1000

    def work(index: int) -> None:
        choose = random.Random(index)
        alloc = pool.allocator()
        kept: list[tuple[memoryview, bytes]] = []
        for i in range(rounds):
            n = choose.randrange(5000)
            content = bytes([(index * 40 + i) % 256]) * n
            view = alloc.allocate(n)
            view[:] = content
            if choose.random() < 0.3:
                kept.append((view, content))
                del kept[: -choose.randrange(1, 6)]
            assert view == content
            del view
            alloc.release()
            for kept_view, kept_content in kept:
                assert kept_view == kept_content

    in_threads(work)
    check_conservation(pool, THREADS * rounds)
    assert pool.stats().dropped == 0


def test_threads_return_views_that_others_took(pool: Pool) -> None:
    """Threads exchange views through slots, and check what they take out."""
    rounds = 2000
    slots: list[tuple[memoryview, int] | None] = [None] * THREADS

    def work(index: int) -> None:
        for i in range(rounds):
            stamp = (index * 50 + i) % 256
            view = pool.view(1000)
            view[:] = bytes([stamp]) * 1000
            slot = (index + i) % THREADS
            taken, slots[slot] = slots[slot], (view, stamp)
            if taken is not None:
                assert taken[0] == bytes([taken[1]]) * 1000

    in_threads(work)
    slots.clear()
    check_conservation(pool, THREADS * rounds)
    assert pool.stats().dropped == THREADS * rounds


def test_threads_share_an_allocator(pool: Pool) -> None:
    """Calls are atomic: of two racing calls, one succeeds and the other raises."""
    alloc = pool.allocator()
    allocated, released = [0] * THREADS, [0] * THREADS

    def work(index: int) -> None:
        choose = random.Random(index)
        for _ in range(3000):
            try:
                match choose.randrange(3):
                    case 0:
                        alloc.allocate(choose.randrange(5000))
                        allocated[index] += 1
                    case 1:
                        alloc.release()
                        released[index] += 1
                    case 2:
                        alloc.bytes()[:10] = bytes(10)
            except bytepool.MisuseError:
                pass
            except ValueError:
                pass  # fewer than 10 bytes were held

    in_threads(work)
    assert sum(allocated) - sum(released) == pool.stats().outstanding in (0, 1)
    with alloc:
        pass
    stats = pool.stats()
    assert stats.outstanding == 0
    assert stats.dropped == 0
    assert sum(allocated) > 1000


def test_stats_are_consistent_while_other_threads_work(pool: Pool) -> None:
    def work(index: int) -> None:
        for _ in range(1000):
            if index:
                pool.allocate(1000).release()
                continue
            stats = pool.stats()
            assert 0 <= stats.outstanding <= stats.peak_outstanding <= THREADS
            for bucket in stats.buckets:
                assert bucket.returned - bucket.freed - bucket.hits == bucket.depth
                assert 0 <= bucket.outstanding < THREADS

    in_threads(work)
    check_conservation(pool, (THREADS - 1) * 1000)


def test_buffers_released_or_dropped_by_another_thread_are_returned_immediately(pool: Pool) -> None:
    """The thread that took the buffers runs no Python code meanwhile."""
    handles = [pool.allocate(1000), pool.allocate(1000), pool.allocator()]
    handles[2].allocate(1000)
    outstanding = [pool.stats().outstanding]

    def work() -> None:
        handles.pop().release()
        outstanding.append(pool.stats().outstanding)
        with handles.pop() as alloc:
            alloc.bytes()[:] = bytes(1000)
        outstanding.append(pool.stats().outstanding)
        del alloc
        handles.pop()
        outstanding.append(pool.stats().outstanding)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert outstanding == [3, 2, 1, 0]
    assert (pool.stats().dropped, pool.stats().deferred) == (1, 0)


@pytest.mark.parametrize("collector", ["works", "does nothing"])
def test_waiters_are_served_while_views_move_between_threads(
    collector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GIL, a waiting thread itself frees what other threads have dropped of its views."""
    if collector == "does nothing":
        monkeypatch.setattr(gc, "collect", lambda *_: 0)
    pool = Pool(1024, 1024, max_bytes=4096)
    rounds = 100
    slots: list[tuple[memoryview, bytes] | None] = [None] * 2

    def work(index: int) -> None:
        for i in range(rounds):
            content = bytes([(index * 40 + i) % 256]) * 1000
            alloc = pool.allocate(1000, timeout=20)
            view = alloc.bytes()
            view[:] = content
            alloc.release()
            taken, slots[i % 2] = slots[i % 2], (view, content)
            del view
            if taken is not None:
                assert taken[0] == taken[1]
            del taken

    in_threads(work)
    slots.clear()
    check_conservation(pool, THREADS * rounds)
    assert pool.stats().deferred == THREADS * rounds
    assert pool.stats().deferred_bytes == 0


def test_garbage_collector_may_run_during_every_operation() -> None:
    """A free-threaded collector stops all threads, and none may hold a lock then."""
    pool = Pool(64, 4096, 4, max_idle_bytes=8192, idle_timeout=0)
    unfinished = list(range(1, THREADS))
    kept: list[memoryview | None] = [None] * 4
    rounds = 100

    def work(index: int) -> None:
        if index == 0:
            while unfinished:
                gc.collect()
                time.sleep(0.001)  # so that the other threads make progress
            return
        choose = random.Random(index)
        for _ in range(rounds):
            with pool.allocate(choose.randrange(5000)) as alloc:
                kept[choose.randrange(4)] = alloc.bytes()
            another = Pool(64, 4096, 4, idle_timeout=0, track="all")
            view = another.view(100)
            another.allocate(100).release()
            pool.stats()
            another.tracked()
            pool.trim(choose.randrange(10_000))
            pool.decay()
            if choose.random() < 0.5:
                another.close()
            del another, view
        unfinished.remove(index)

    in_threads(work)
    kept.clear()
    check_conservation(pool, (THREADS - 1) * rounds)
    assert pool.stats().deferred_bytes == 0


def test_tracked_buffers_can_be_listed_while_other_threads_work() -> None:
    over = threading.Event()
    held = [Pool(64, 64, 1, track="all").view(1) for _ in range(300)]

    def look() -> None:
        for i in range(300):
            tracked = tracking.tracked()
            assert len(tracked) >= len(held)
            assert tracked[-1].origin
            if i % 100 == 0:
                tracked[-1].holders()

    def work(index: int) -> None:
        if index == 0:
            try:
                look()
            finally:
                over.set()
        while not over.is_set():
            pool = Pool(64, 4096, 1, track="all")
            with pool.allocate(100) as alloc:
                alloc.bytes()[:] = bytes(100)

    in_threads(work)


@pytest.fixture
def _callbacks() -> Iterator[None]:
    before = list(gc.callbacks)
    yield
    gc.callbacks[:] = before


@pytest.mark.usefixtures("_callbacks")
@pytest.mark.thread_unsafe(reason="it replaces the callbacks of the garbage collector")
def test_pools_created_concurrently_register_one_callback() -> None:
    barrier = threading.Barrier(THREADS, timeout=10)

    def nothing(*_: object) -> None:
        pass

    def work(index: int) -> None:
        for _ in range(60):
            if index == 0:
                gc.callbacks[:] = [nothing] * 20_000  # a list that takes long to search
            barrier.wait()
            Pool(64, 64, 1)
            barrier.wait()
            if index == 0:
                ours = [callback for callback in gc.callbacks if callback is not nothing]
                assert len(ours) == 1

    in_threads(work)
