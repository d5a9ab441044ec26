"""``zero``: which old bytes the next holder of a buffer can see."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from typing import TYPE_CHECKING, Literal

import pytest

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

KIB, MIB = 1 << 10, 1 << 20
SIZES = [0, 1, 1000, 64 * KIB, MIB]  # below and above the size at which zeroing releases the GIL
Policy = Literal["never", "release", "allocate"]


def return_dirty(pool: Pool, n: int) -> int:
    """Fill a buffer of ``n`` bytes, return it to the pool, and return its address."""
    view = pool.view(n)
    view[:] = b"\xaa" * n
    return address(view) if n else 0


def address(view: memoryview) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


def take_view(pool: Pool, n: int) -> bytes:
    return bytes(pool.view(n))


def take_allocate(pool: Pool, n: int) -> bytes:
    with pool.allocate(n) as alloc:
        return bytes(alloc.bytes())


def take_reused(pool: Pool, n: int) -> bytes:
    return bytes(pool.allocator().allocate(n))


TAKES = [take_view, take_allocate, take_reused]


@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("n", SIZES)
def test_zero_never_shows_the_old_bytes_of_reused_memory(
    n: int, take: Callable[[Pool, int], bytes]
) -> None:
    pool = Pool(zero="never")
    assert take(pool, n) == bytes(n)  # fresh memory is zeroed
    return_dirty(pool, n)
    assert take(pool, n) == b"\xaa" * n


@pytest.mark.parametrize("take", TAKES)
@pytest.mark.parametrize("zero", ["release", "allocate"])
@pytest.mark.parametrize("n", SIZES)
def test_zero_release_and_allocate_show_no_old_bytes(
    n: int, zero: Policy, take: Callable[[Pool, int], bytes]
) -> None:
    pool = Pool(zero=zero)
    for _ in range(2):
        return_dirty(pool, n)
        assert take(pool, n) == bytes(n)
    assert pool.stats().hit_rate >= 0.5
    # The same holds between smaller and larger requests of one size class.
    return_dirty(pool, 3 * n // 4)
    assert take(pool, n) == bytes(n)


@pytest.mark.parametrize("n", SIZES[1:])
def test_zero_release_zeroes_idle_memory_and_allocate_does_not(n: int) -> None:
    """The test reads the idle memory by its address."""
    for zero, stamp in (("release", 0), ("allocate", 0xAA), ("never", 0xAA)):
        pool = Pool(zero=zero)  # type: ignore[arg-type]
        assert ctypes.string_at(return_dirty(pool, n), n) == bytes([stamp]) * n
        with pool.allocate(n) as alloc:
            alloc.bytes()[:] = b"\xaa" * n
            where = address(alloc.bytes())
        assert ctypes.string_at(where, n) == bytes([stamp]) * n


def test_zero_release_waits_until_the_buffer_is_returned() -> None:
    pool = Pool(zero="release")
    alloc = pool.allocate(MIB)
    view = alloc.bytes()
    view[:] = b"\xaa" * MIB
    alloc.release()
    assert view == b"\xaa" * MIB
    where = address(view)
    del view
    assert ctypes.string_at(where, MIB) == bytes(MIB)


def test_waiters_see_no_old_bytes() -> None:
    for zero in ("release", "allocate"):
        pool = Pool(KIB, KIB, max_bytes=KIB, zero=zero)
        alloc = pool.allocate(KIB)
        alloc.bytes()[:] = b"\xaa" * KIB
        threading.Timer(0.05, alloc.release).start()
        assert pool.allocate(KIB, timeout=20).bytes() == bytes(KIB)
        assert pool.stats().hit_rate == 0.5


def test_null_and_transient_memory_is_always_zeroed() -> None:
    for pool in (Pool.null(), Pool(max_size=4096, zero="release")):
        return_dirty(pool, MIB)
        assert take_view(pool, MIB) == bytes(MIB)


@pytest.mark.parametrize("zero", ["release", "allocate"])
def test_other_threads_run_while_large_blocks_are_zeroed(zero: Policy) -> None:
    n = 256 * MIB
    pool = Pool(max_size=n, max_buffers=1, zero=zero)
    view = pool.view(n)
    view[:: 4 * KIB] = b"\xaa" * (n // (4 * KIB))
    steps: list[int] = []
    begun, over = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        while not over.is_set():
            steps.append(1)
            time.sleep(0)  # releases the GIL immediately

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # a thread keeps the GIL until it releases it
    thread = threading.Thread(target=work)
    thread.start()
    try:
        begun.wait()
        during = 0
        for _ in range(50):  # on a busy machine the thread may not get a processor in time
            before = len(steps)
            del view  # this line or the next one zeroes the buffer
            view = pool.view(n)
            during = len(steps) - before
            if during:
                break
    finally:
        sys.setswitchinterval(interval)
        over.set()
        thread.join()
    assert (during > 0, len(view)) == (True, n)
