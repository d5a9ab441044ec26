"""Every public call, repeated a million times, leaks nothing, whether it succeeds or raises.

The tests count the blocks of CPython's allocator, the bytes of the C library's allocator, the
memory mappings and the buffers in use. ``make leaks`` makes a million calls of each kind,
``make test`` a few thousand.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers import repetitions
from prometheus_client import CollectorRegistry, generate_latest

from bytepool import Pool, blocking, prometheus, streams
from bytepool.tracking import tracked as all_tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

TIMES = repetitions(short=2_000, long=1_000_000)
# These calls are repeated a tenth as often.
SLOW = {"pool.stats", "stats.as_dict", "prometheus", "tracked", "holders", "async, served"}
SLOW |= {"async, cancelled", "readview", "readview, cancelled", "readview, too early", "readinto"}
SLOW |= {"pool.view, a mapping", "read_file"}
SLACK = 80  # blocks that caches of the interpreter may add, whatever the number of calls


class Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc: ten numbers. Two of them are used."""

    _fields_ = (
        ("before", ctypes.c_size_t * 4),
        ("hblkhd", ctypes.c_size_t),
        ("between", ctypes.c_size_t * 2),
        ("uordblks", ctypes.c_size_t),
        ("after", ctypes.c_size_t * 2),
    )


def mapped() -> int:
    """Return the number of memory mappings. Every large buffer is one."""
    with Path("/proc/self/maps").open("rb") as maps:
        return sum(1 for _ in maps)


def malloced() -> int:
    """Return the bytes allocated from the C library, which Rust uses as well."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo
    info = mallinfo2()
    return int(info.uordblks + info.hblkhd)


class Hostile:
    def __index__(self) -> int:
        raise ZeroDivisionError


POOL = Pool(64, 4096, 4, name="leaks")
TRACKED = Pool(64, 4096, 4, track="all")
BUDGET = Pool(64, 4096, 4, max_bytes=4096)
LARGE = Pool(max_buffers=0)
POISONED = Pool(64, 4096, 0, poison=True)
ZEROED = Pool(64, 4096, 4, zero="release")
CLOSED = Pool()
CLOSED.close()
ALLOC = POOL.allocator()
HELD = POOL.allocate(100)
REGISTRY = CollectorRegistry()
prometheus.register(POOL, registry=REGISTRY)


def with_block() -> None:
    with POOL.allocate(100) as alloc:
        alloc.bytes()


def deferred() -> None:
    alloc = POOL.allocate(100)
    view = alloc.bytes()
    alloc.release()
    view[:1] = b"x"


def pool_in_a_block() -> None:
    with Pool(64, 128, 2) as pool:
        pool.view(100)


def pool_with_all_options() -> None:
    Pool(64, 128, 2, name="x", track="all", max_bytes=1000, zero="release").view(100)


def allocator() -> None:
    ALLOC.allocate(100)
    ALLOC.release()


def view_that_outlives_its_pool() -> memoryview:
    return Pool(64, 128, 2).view(100)


def tracked() -> None:
    alloc = TRACKED.allocate(100)
    view = alloc.bytes()
    alloc.release()
    (found,) = TRACKED.tracked()
    assert (found.size, found.released, len(view)) == (100, True, 100)
    repr(found), found.origin, found.thread, all_tracked()


def timed_out() -> None:
    with BUDGET.allocate(4096):
        BUDGET.allocate(100, timeout=1e-9)


def not_granted() -> None:
    from bytepool._bytepool import Waiter

    with BUDGET.allocate(4096), Waiter(BUDGET, 100, int) as waiter:
        waiter.take()


def holders() -> None:
    kept = [TRACKED.view(100)]
    (found,) = TRACKED.tracked()
    assert found.holders()
    kept.clear()


async def served() -> None:
    held = BUDGET.allocate(4096)
    task = asyncio.ensure_future(BUDGET.allocate_async(100))
    await asyncio.sleep(0)
    held.release()
    (await task).release()


async def read_in_vain(cancel: bool) -> None:
    """A read waits for memory, then for bytes, and then is cancelled or meets the end."""
    reader = streams.StreamReader(pool=BUDGET)
    held = BUDGET.allocate(4096)
    task = asyncio.ensure_future(reader.readview(100))
    await asyncio.sleep(0)
    held.release()
    await asyncio.sleep(0)
    reader.feed_data(b"only")
    if cancel:
        task.cancel()
    else:
        reader.feed_eof()
    await asyncio.wait([task])
    assert cancel == task.cancelled()
    assert cancel or len(task.exception().partial) == 4  # type: ignore[union-attr]


async def cancelled() -> None:
    with BUDGET.allocate(4096):
        task = asyncio.ensure_future(BUDGET.allocate_async(100))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])


async def read(into: bytearray | None = None) -> None:
    reader = streams.StreamReader(pool=POOL)
    read = reader.readview(10) if into is None else reader.readinto(into)
    task = asyncio.ensure_future(read)
    await asyncio.sleep(0)
    reader.feed_data(b"0123456789")
    await task


def receive(n: int) -> None:
    RIGHT.sendall(b"0123456789")
    blocking.recv_exactly(LEFT, n, POOL)


def receive_too_little() -> None:
    try:
        receive(11)
    except TimeoutError:
        return
    raise AssertionError


def on_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    return lambda: LOOP.run_until_complete(work())


LOOP = asyncio.new_event_loop()
LEFT, RIGHT = socket.socketpair()
LEFT.settimeout(1e-6)

CALLS: dict[str, Callable[[], Any]] = {
    "Pool": lambda: Pool(64, 128, 2),
    "Pool, all options": pool_with_all_options,
    "with Pool": pool_in_a_block,
    "Pool.null": lambda: Pool.null().view(10),
    "a view outlives its pool": view_that_outlives_its_pool,
    "pool.view": lambda: POOL.view(100),
    "pool.view, transient": lambda: POOL.view(5000),
    "pool.allocate": lambda: POOL.allocate(100).release(),
    "pool.allocate, dropped": lambda: POOL.allocate(100),
    "with pool.allocate": with_block,
    "deferred": deferred,
    "alloc.allocate": allocator,
    "alloc.bytes": HELD.bytes,
    "alloc.size": lambda: HELD.size,
    "repr": lambda: (repr(POOL), repr(HELD), repr(ALLOC)),
    "pool.allocator": POOL.allocator,
    "pool.trim": lambda: POOL.trim(0),
    "pool.decay": POOL.decay,
    "pool.stats": lambda: str(POOL.stats() - POOL.stats()),
    "stats.as_dict": lambda: POOL.stats().as_dict(),
    "properties": lambda: [getattr(POOL, name) for name in dir(POOL) if name[0] != "_"],
    "tracked": tracked,
    "pool.tracked": TRACKED.tracked,
    "prometheus": lambda: generate_latest(REGISTRY),
    "holders": holders,
    "async, served": on_loop(served),
    "readview": on_loop(read),
    "readinto": on_loop(lambda: read(bytearray(10))),
    "recv_exactly": lambda: receive(10),
    "read_file": lambda: blocking.read_file(__file__, POOL),
    "pool.view, a mapping": lambda: LARGE.view(1 << 20),
    "pool.view, with poison": lambda: POISONED.view(100),
    "pool.view, zeroed": lambda: ZEROED.view(100),
    # These calls raise.
    "allocated already": lambda: HELD.allocate(1),
    "returned already": ALLOC.release,
    "no bytes": ALLOC.bytes,
    "negative": lambda: POOL.view(-1),
    "too large": lambda: POOL.view(sys.maxsize + 1),
    "no memory": lambda: POOL.allocate(sys.maxsize),
    "no integer": lambda: POOL.allocate("1"),  # type: ignore[arg-type]
    "raises": lambda: ALLOC.allocate(Hostile()),
    "raises in Pool": lambda: Pool(Hostile()),
    "min_size above max_size": lambda: Pool(1 << 20, 1),
    "no such policy": lambda: Pool(zero="often"),  # type: ignore[arg-type]
    "no such level": lambda: Pool(track="some"),  # type: ignore[arg-type]
    "closed": lambda: CLOSED.view(1),
    "above the budget": lambda: BUDGET.allocate(5000),
    "exhausted": timed_out,
    "waiter without a grant": not_granted,
    "pickled": lambda: POOL.__reduce__(),
    "exporter has no constructor": lambda: type(POOL.view(1).obj)(),
    "async, cancelled": on_loop(cancelled),
    "readview, cancelled": on_loop(lambda: read_in_vain(cancel=True)),
    "readview, too early": on_loop(lambda: read_in_vain(cancel=False)),
    "recv_exactly, too early": receive_too_little,
    "no file": lambda: blocking.read_file("nowhere", POOL),
}


@pytest.fixture(autouse=True, scope="module")
def _closed_at_the_end() -> Iterator[None]:
    yield
    LOOP.close()
    LEFT.close()
    RIGHT.close()


@pytest.fixture(autouse=True)
def _without_garbage_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def call(work: Callable[[], Any], times: int) -> None:
    for _ in range(times):
        try:
            work()
        except AssertionError:
            raise
        except Exception:
            pass


def growth(work: Callable[[], Any], times: int) -> tuple[int, int, int, int]:
    def now() -> tuple[int, int, int, int]:
        pools = (POOL, TRACKED, BUDGET, LARGE, POISONED, ZEROED)
        in_use = sum(pool.stats().outstanding for pool in pools)
        return sys.getallocatedblocks(), malloced(), mapped(), in_use

    before = now()
    call(work, times)
    gc.collect()
    blocks, malloced_bytes, mappings, in_use = (b - a for a, b in zip(before, now(), strict=True))
    return blocks, malloced_bytes, mappings, in_use


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_nothing_behind(name: str) -> None:
    work = CALLS[name]
    call(work, 300)
    for _attempt in range(3):  # a leak shows every time, a cache that fills up does not
        times = TIMES // 10 if name in SLOW else TIMES
        blocks, malloced_bytes, mappings, in_use = growth(work, times)
        assert in_use == 0, "buffers are still in use"
        if blocks <= SLACK and malloced_bytes <= SLACK * 1024 and mappings <= SLACK:
            return
    pytest.fail(
        f"{blocks} blocks of CPython, {malloced_bytes} bytes of the C library, "
        f"{mappings} mappings leaked"
    )


def test_measurement_would_catch_a_leak_of_one_block_per_ten_calls() -> None:
    kept = [object() for _ in range(TIMES // 10)]
    before = sys.getallocatedblocks()
    kept.clear()
    assert before - sys.getallocatedblocks() > SLACK
