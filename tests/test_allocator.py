"""``bytepool.Allocator``: the rules of the handle, the same for every kind of pool."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
from helpers import pattern, reuse_hard

import bytepool

if TYPE_CHECKING:
    from bytepool import Pool


def test_allocator_has_no_public_constructor() -> None:
    with pytest.raises(TypeError, match=r"cannot create 'bytepool\.Allocator' instances"):
        bytepool.Allocator()


def test_new_allocator_holds_nothing(pool: Pool) -> None:
    alloc = pool.allocator()
    assert alloc.size == 0
    assert repr(alloc) == f"<Allocator holding nothing of {pool!r}>"
    assert pool.stats().outstanding == 0


def test_allocate_returns_a_view_and_holds_the_bytes(pool: Pool) -> None:
    alloc = pool.allocator()
    view = alloc.allocate(1000)
    assert type(view) is memoryview
    assert (view.nbytes, alloc.size, pool.stats().outstanding) == (1000, 1000, 1)
    assert repr(alloc) == f"<Allocator holding 1000 bytes of {pool!r}>"


def test_pool_allocate_returns_an_allocator_that_holds_bytes(pool: Pool) -> None:
    alloc = pool.allocate(1000)
    assert type(alloc) is bytepool.Allocator
    assert (alloc.size, alloc.bytes().nbytes) == (1000, 1000)


def test_bytes_returns_the_same_memory_at_the_requested_size(pool: Pool) -> None:
    alloc = pool.allocator()
    first = alloc.allocate(1000)
    second = alloc.bytes()
    assert second is not first
    assert second.obj is first.obj
    first[5] = 77
    assert second[5] == 77
    assert alloc.bytes().nbytes == 1000


def test_allocator_keeps_no_reference_to_its_views(pool: Pool) -> None:
    alloc = pool.allocate(1000)
    alloc.bytes()[0] = 1
    alloc.release()
    assert (pool.stats().outstanding, pool.stats().deferred) == (0, 0)


def test_second_allocate_raises_and_changes_nothing(pool: Pool) -> None:
    alloc = pool.allocate(1000)
    alloc.bytes()[:] = pattern(1000)
    before = pool.stats()
    with pytest.raises(bytepool.BytesAlreadyAllocatedError, match="holds 1000 bytes"):
        alloc.allocate(10)
    assert pool.stats() == before
    assert alloc.bytes() == pattern(1000)


def test_release_and_bytes_raise_while_nothing_is_held(pool: Pool) -> None:
    alloc = pool.allocator()
    for _ in range(2):
        with pytest.raises(bytepool.BytesAlreadyReturnedError, match=r"release\(\) called while"):
            alloc.release()
        with pytest.raises(bytepool.BytesAlreadyReturnedError, match=r"bytes\(\) called while"):
            alloc.bytes()
        alloc.allocate(10)
        alloc.release()
    assert pool.stats().outstanding == 0


def test_zero_bytes_follow_the_same_rules_as_any_size(pool: Pool) -> None:
    alloc = pool.allocate(0)
    assert (alloc.size, bytes(alloc.bytes())) == (0, b"")
    with pytest.raises(bytepool.BytesAlreadyAllocatedError, match="holds 0 bytes"):
        alloc.allocate(1)
    alloc.release()
    with pytest.raises(bytepool.BytesAlreadyReturnedError):
        alloc.release()


def test_allocator_is_reusable_after_release(pool: Pool) -> None:
    alloc = pool.allocator()
    for i in range(500):
        alloc.allocate(i)[:] = bytes([i % 256]) * i
        assert alloc.bytes() == bytes([i % 256]) * i
        alloc.release()
    stats = pool.stats()
    assert (stats.outstanding, stats.dropped) == (0, 0)
    assert all(bucket.peak_outstanding == 1 for bucket in stats.buckets)


def test_buffer_is_returned_before_release_returns(pool: Pool) -> None:
    alloc = pool.allocate(1000)
    alloc.release()
    stats = pool.stats()
    assert (stats.outstanding, stats.deferred, stats.dropped) == (0, 0, 0)
    assert (alloc.size, sum(bucket.depth for bucket in stats.buckets)) == (0, len(stats.buckets))


def test_release_with_a_live_view_is_deferred(pool: Pool) -> None:
    alloc = pool.allocate(1000)
    view = alloc.bytes()
    view[:] = pattern(1000)
    alloc.release()
    stats = pool.stats()
    assert (stats.outstanding, stats.deferred) == (1, 1)
    reuse_hard(pool, 1000)
    assert view == pattern(1000)
    view[0] = 0  # the view owns the memory as long as it lives
    del view
    stats = pool.stats()
    assert (stats.outstanding, stats.deferred) == (0, 1)


def test_allocator_can_allocate_again_after_a_deferred_release(pool: Pool) -> None:
    alloc = pool.allocator()
    old = alloc.allocate(1000)
    old[:] = b"o" * 1000
    alloc.release()
    new = alloc.allocate(1000)
    new[:] = b"n" * 1000
    assert old == b"o" * 1000
    assert old.obj is not new.obj
    assert pool.stats().outstanding == 2


def test_dropped_allocator_returns_its_buffer(pool: Pool) -> None:
    pool.allocate(1000)
    stats = pool.stats()
    assert (stats.outstanding, stats.dropped) == (0, 1)
    view = pool.allocate(1000).bytes()
    assert (pool.stats().outstanding, pool.stats().dropped) == (1, 1)
    del view
    assert (pool.stats().outstanding, pool.stats().dropped) == (0, 2)


def test_with_block_releases_at_its_end(pool: Pool) -> None:
    with pool.allocate(1000) as alloc:
        assert type(alloc) is bytepool.Allocator
        alloc.bytes()[:] = pattern(1000)
        assert pool.stats().outstanding == 1
    assert (pool.stats().outstanding, pool.stats().dropped, alloc.size) == (0, 0, 0)


def test_with_block_accepts_an_allocator_that_holds_nothing(pool: Pool) -> None:
    with pool.allocate(1000) as alloc:
        alloc.release()
    with pool.allocator() as alloc:
        pass
    with alloc:
        alloc.allocate(10)
    assert (alloc.size, pool.stats().outstanding) == (0, 0)


def test_with_block_releases_and_propagates_exceptions(pool: Pool) -> None:
    alloc = pool.allocator()
    alloc.allocate(10)
    with pytest.raises(ZeroDivisionError), alloc:
        _ = 1 / 0
    assert (alloc.size, pool.stats().outstanding) == (0, 0)


def test_allocator_keeps_its_pool_alive(pool: Pool) -> None:
    alloc = pool.allocator()
    del pool
    assert alloc.allocate(100).nbytes == 100


@pytest.mark.parametrize("operation", [pickle.dumps, copy.copy, copy.deepcopy])
def test_allocator_cannot_be_pickled_or_copied(operation: object, pool: Pool) -> None:
    assert callable(operation)
    with pytest.raises(TypeError, match="cannot pickle or copy an Allocator"):
        operation(pool.allocate(10))


def test_allocator_does_not_export_a_buffer(pool: Pool) -> None:
    with pytest.raises(TypeError, match="bytes-like object is required"):
        memoryview(pool.allocate(10))  # type: ignore[arg-type]
