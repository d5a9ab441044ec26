"""Make each allocation of many calls fail in turn: those of CPython, or those of Rust code.

``python starved_calls.py python`` or ``python starved_calls.py extension``. The latter needs
``failing_malloc.c`` as LD_PRELOAD. It prints how many calls raised MemoryError. A panic or an
abort ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import sys
import warnings
from typing import TYPE_CHECKING, Any

from bytepool import Pool, default_pool, streams, tracking
from bytepool._bytepool import Waiter, live_pools, settle_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

warnings.simplefilter("ignore")  # for dropped handles and reads that were never awaited
sys.unraisablehook = lambda _: None  # called for buffers that could not be tracked

loop = asyncio.new_event_loop()
asyncio._set_running_loop(loop)  # so that the coroutines below need no task

pool, budget = Pool(64, 4096, 4, name="starved"), Pool(64, 4096, 4, max_bytes=4096)
tracked, closed = Pool(64, 4096, 4, track="all"), Pool()
closed.close()
held, alloc = pool.allocate(100), pool.allocator()
recorded = tracked.allocate(100)
default_pool()


def in_a_block() -> None:
    with pool.allocate(100) as one:
        one.bytes()


def take(method: str) -> None:
    with budget.allocate(4096) as whole_budget, Waiter(budget, 100, int) as waiter:
        whole_budget.release()
        getattr(waiter, method)()
        budget.allocator().release()


def wait_in_a_thread() -> None:
    with budget.allocate(4096), contextlib.suppress(MemoryError):
        budget.allocate(100, timeout=0.001)


def wait_in_a_task() -> None:
    with budget.allocate(4096) as whole_budget:
        coroutine: Coroutine[Any, Any, Any] = budget.allocate_async(100)
        try:
            coroutine.send(None)
            whole_budget.release()
        finally:
            coroutine.close()


def die_with_many() -> None:
    pools = [Pool(64, 64) for _ in range(5)]
    assert set(pools) <= set(pools)


def finish(read: Any) -> object:
    """Run a read whose bytes are there."""
    try:
        read.send(None)
    except StopIteration as end:
        return end.value
    except StopAsyncIteration:
        return None
    raise AssertionError("the read waits")


def reader(data: bytes = b"", *, end: bool = True) -> streams.StreamReader:
    made = streams.StreamReader(limit=1 << 16, loop=loop, pool=pool)
    if data:
        made.feed_data(data)
    if end:
        made.feed_eof()
    return made


def read_late(name: str, *arguments: object, size: int) -> None:
    """Start a read before its bytes come."""
    made = reader(b"12", end=False)
    read = getattr(made, name)(*arguments)
    read.send(None)
    made.feed_data(bytes(size))
    finish(read)


def read_too_early(name: str, *arguments: object) -> None:
    """Read more than there is."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        finish(getattr(reader(b"12"), name)(*arguments))


def expose() -> None:
    made = reader(b"1234")
    shown = made._buffer
    made.feed_data(b"56") if not made._eof else None
    del shown[:2]
    finish(made.read())


def message(size: int) -> bytes:
    return size.to_bytes(4, "big") + bytes(size)


def receive_a_part_of_a_frame() -> None:
    made = reader(message(200_000)[:100], end=False)
    read: Any = made.frames().__anext__()
    read.send(None)
    read.close()


CALLS: dict[str, Callable[[], object]] = {
    "a pool": lambda: Pool(
        64, 128, 2, name="x", track="all", max_bytes=1000, zero="release", idle_timeout=1
    ),
    "a null pool": lambda: Pool.null(name="x").view(10),
    "many pools": die_with_many,
    "a view": lambda: pool.view(100),
    "a transient view": lambda: pool.view(5000),
    "a handle": lambda: pool.allocate(100).release(),
    "a tracked handle": lambda: tracked.allocate(100).release(),
    "an allocator": lambda: [alloc.allocate(10), alloc.release],
    "repr": lambda: (repr(pool), repr(held), repr(alloc)),
    "repr of everything": lambda: repr(
        Pool(64, 64, 1, name="x", max_idle_bytes=1, max_bytes=64, idle_timeout=None, zero="release")
    ),
    "take a grant": lambda: take("take"),
    "view a grant": lambda: take("view"),
    "a used-up budget": lambda: budget.allocate(5000),
    "a closed pool": lambda: closed.view(1),
    "allocate twice": lambda: held.allocate(1),
    "too large": lambda: pool.view(sys.maxsize),
    "not a size": lambda: pool.view(-1),
    "far too large": lambda: pool.view(1 << 100),
    "far too small": lambda: pool.view(-1 << 100),
    "pool.allocator": pool.allocator,
    "pool.decay": pool.decay,
    "pool.trim": pool.trim,
    "held.bytes": held.bytes,
    "alloc.release": alloc.release,
    "a block": in_a_block,
    "stats": pool.stats,
    "stats as text": lambda: str(pool.stats()),
    "live pools": live_pools,
    "a fork": settle_after_fork,
    "a collection": gc.collect,
    "tracked": tracked.tracked,
    "a record": lambda: tracked.tracked()[0].origin,
    "all tracked": tracking.tracked,
    "wait in a thread": wait_in_a_thread,
    "wait in a task": wait_in_a_task,
    "a reader": reader,
    "readexactly": lambda: finish(reader(b"1234").readexactly(3)),
    "read": lambda: finish(reader(b"1234").read(3)),
    "read all": lambda: finish(reader(b"1234").read()),
    "readline": lambda: finish(reader(b"12\n34").readline()),
    "readuntil": lambda: finish(reader(b"12\n34").readuntil(b"3")),
    "readinto": lambda: finish(reader(b"1234").readinto(bytearray(3))),
    "readview": lambda: finish(reader(b"1234").readview(3)),
    "a frame": lambda: finish(reader(message(10)).frames().__anext__()),
    "a frame as bytes": lambda: finish(reader(message(10)).frames(as_bytes=True).__anext__()),
    "a frame that is too large": lambda: finish(reader(message(10)).frames(max_size=5).__anext__()),
    "no more frames": lambda: finish(reader().frames().__anext__()),
    "a part of a frame": receive_a_part_of_a_frame,
    "wait in readexactly": lambda: read_late("readexactly", 10, size=10),
    "wait in a large readexactly": lambda: read_late("readexactly", 200_000, size=200_000),
    "wait in readview": lambda: read_late("readview", 200_000, size=200_000),
    "wait in readinto": lambda: read_late("readinto", bytearray(200_000), size=200_000),
    "wait in readuntil": lambda: read_late("readuntil", b"\0", size=10),
    "incomplete readexactly": lambda: read_too_early("readexactly", 10),
    "incomplete readuntil": lambda: read_too_early("readuntil", b"3"),
    "incomplete readview": lambda: read_too_early("readview", 200_000),
    "the exposed buffer": expose,
    "never awaited": lambda: reader(b"12").readexactly(1) and None,
}


def starve_python() -> int:
    """Let each of the first 60 allocations of CPython fail during each call."""
    import _testcapi  # type: ignore[import-not-found]

    refused = 0
    del CALLS["a record"]  # CPython 3.11 crashes in code.co_lines()
    for call in CALLS.values():
        for n in range(-1, 60):
            if n >= 0:  # the first call creates strings that a process creates only once
                _testcapi.set_nomemory(n, n + 1)
            try:
                call()
            except MemoryError:
                refused += 1
            except Exception:
                pass
            finally:
                _testcapi.remove_mem_hooks()
            clean_up()
    return refused


def starve_the_extension() -> int:
    """Let each allocation of the extension's Rust code fail during each call."""
    left = ctypes.c_long.in_dll(ctypes.CDLL(None), "allocations_before_failure")
    refused = 0
    for name, call in CALLS.items():
        for n in range(1000):
            print(f"allocation {n} of {name}", flush=True)
            left.value = n
            try:
                call()
            except MemoryError:
                refused += 1
            except Exception:
                pass
            is_enough, left.value = left.value >= 0, -1
            clean_up()
            if is_enough:
                break
    return refused


def clean_up() -> None:
    with contextlib.suppress(Exception):
        alloc.release()


if __name__ == "__main__":
    count = starve_python() if sys.argv[1] == "python" else starve_the_extension()
    gc.collect()
    for one in (pool, budget, tracked):
        stats = one.stats()
        assert stats.outstanding == (one is not budget), stats
    loop.close()
    print(count)
