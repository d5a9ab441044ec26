"""``poison=True`` detects writes to idle buffers."""

from __future__ import annotations

import ctypes
import threading
from typing import Literal

import pytest

from bytepool import BytesOverwrittenError, MisuseError, Pool

KIB = 1 << 10


def address_of_idle_buffer(pool: Pool, n: int) -> int:
    """Return the address of a buffer that was returned, as careless code might keep it."""
    view = pool.view(n)
    view[:] = b"x" * n
    return ctypes.addressof(ctypes.c_char.from_buffer(view))


@pytest.mark.parametrize("n", [100, 64 * KIB, 1 << 20])
def test_write_to_an_idle_buffer_raises_at_its_next_allocation(n: int) -> None:
    pool = Pool(min_size=64, poison=True)
    address = address_of_idle_buffer(pool, n)
    ctypes.memset(address + n // 2, 1, 1)
    with pytest.raises(BytesOverwrittenError, match=rf"{n // 2}: its address was kept"):
        pool.allocate(n)
    assert issubclass(BytesOverwrittenError, MisuseError)
    # The error is raised once, and the pool stays usable.
    with pool.allocate(n) as alloc:
        assert bytes(alloc.bytes()) == b"\xdb" * n
    assert pool.stats().outstanding == 0


def test_bytes_past_the_requested_size_are_checked() -> None:
    pool = Pool(min_size=1024, poison=True)
    address = address_of_idle_buffer(pool, 10)
    ctypes.memset(address + 1023, 1, 1)
    with pytest.raises(BytesOverwrittenError, match="at offset 1023"):
        pool.view(10)


def test_writes_to_buffers_in_use_are_allowed() -> None:
    pool = Pool(poison=True)
    for n in (10, 5000, 4096, 1):
        for _ in range(3):
            pool.view(n)[:] = b"y" * n
    assert pool.stats().hit_rate > 0.5


@pytest.mark.parametrize("zero", ["release", "allocate"])
def test_poison_can_be_combined_with_zeroing(zero: Literal["release", "allocate"]) -> None:
    pool = Pool(poison=True, zero=zero)
    address = address_of_idle_buffer(pool, 100)
    assert ctypes.string_at(address, 100) == b"\xdb" * 100
    assert bytes(pool.view(100)) == bytes(100)


def test_buffer_passed_to_a_waiter_is_poisoned() -> None:
    pool = Pool(KIB, KIB, max_bytes=KIB, poison=True)
    alloc = pool.allocate(KIB)
    alloc.bytes()[:] = b"z" * KIB
    threading.Timer(0.05, alloc.release).start()
    assert bytes(pool.allocate(KIB, timeout=20).bytes()) == b"\xdb" * KIB


def test_pool_without_poison_does_not_check() -> None:
    pool = Pool()
    address = address_of_idle_buffer(pool, 100)
    ctypes.memset(address, 1, 1)
    assert bytes(pool.view(100)) == b"\x01" + b"x" * 99
    assert not pool.poison
