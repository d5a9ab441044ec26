"""What frees idle memory: the caps, ``trim()`` and ``close()``."""

from __future__ import annotations

import pytest
from helpers import KIB, fill, freed, idle

import bytepool
from bytepool import Pool, PoolClosedError


class TestMaxIdleBytes:
    """``max_idle_bytes`` caps the idle bytes of a whole pool."""

    def test_bytes_above_the_cap_are_freed_and_counted(self) -> None:
        pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=8 * KIB)
        fill(pool, *[KIB] * 12)
        assert idle(pool) == {KIB: 8}
        assert (freed(pool, "capped"), freed(pool, "discarded")) == (4, 0)
        assert pool.stats().idle_bytes == pool.max_idle_bytes

    def test_cap_holds_for_all_size_classes_together(self) -> None:
        pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=8 * KIB)
        fill(pool, *[KIB] * 4, *[2 * KIB] * 4, *[4 * KIB] * 4)
        assert 0 < pool.stats().idle_bytes <= 8 * KIB

    def test_unused_buffers_are_evicted_largest_first(self) -> None:
        pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=16 * KIB)
        fill(pool, *[KIB] * 4, 8 * KIB, 4 * KIB)
        assert pool.stats().idle_bytes == 16 * KIB
        fill(pool, 64 * KIB)  # larger than the limit
        fill(pool, 16 * KIB)  # no buffer counts as unused yet, so this one is freed
        assert idle(pool) == {KIB: 4, 4 * KIB: 1, 8 * KIB: 1}
        fill(pool, 8 * KIB, KIB, KIB)  # marks these as used
        fill(pool, 1536, 1536)  # evict the unused buffer of 4 KiB
        assert idle(pool) == {KIB: 4, 1536: 2, 8 * KIB: 1}
        fill(pool, *[1536] * 4)  # evict the two unused buffers of 1 KiB
        assert idle(pool) == {KIB: 2, 1536: 4, 8 * KIB: 1}
        assert freed(pool, "capped") == 2 + 1 + 2

    def test_used_buffers_stay_and_the_returned_one_is_freed(self) -> None:
        pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=8 * KIB)
        for _ in range(10):
            fill(pool, *[KIB] * 8)
            fill(pool, 8 * KIB)
        assert idle(pool) == {KIB: 8}
        assert freed(pool, "capped") == 10

    def test_quota_of_an_unused_size_class_moves_to_others(self) -> None:
        pool = Pool(KIB, 64 * KIB, 16, max_idle_bytes=16 * KIB)
        fill(pool, *[KIB] * 16)
        held = [pool.view(KIB) for _ in range(16)]
        fill(pool, *[4 * KIB] * 4)
        assert idle(pool) == {4 * KIB: 4}
        held.clear()  # no quota is left, and the first eviction finds all in use
        assert idle(pool) == {KIB: 15}
        assert freed(pool, "capped") == 1 + 4

    def test_cap_of_zero_keeps_nothing(self) -> None:
        pool = Pool(max_idle_bytes=0)
        fill(pool, 1, 5000, 1 << 20)
        assert (pool.stats().idle_bytes, freed(pool, "capped")) == (0, 3)

    def test_default_cap_bounds_a_burst(self) -> None:
        pool = Pool()
        fill(pool, *[16 << 20] * 16)
        assert 0 < pool.stats().idle_bytes <= 64 << 20


class TestTrim:
    """``trim()`` frees idle memory on request."""

    def test_trim_frees_idle_memory_and_returns_its_size(self) -> None:
        pool = Pool(KIB, 64 * KIB)
        in_use = pool.view(KIB)
        fill(pool, *[KIB] * 3, *[64 * KIB] * 2)
        assert pool.trim() == 3 * KIB + 2 * 64 * KIB
        assert (pool.stats().idle_bytes, freed(pool, "trimmed"), pool.trim()) == (0, 5, 0)
        in_use[:] = b"x" * KIB
        del in_use
        assert idle(pool) == {KIB: 1}

    @pytest.mark.parametrize(
        ("keep", "left"),
        [
            (1 << 30, {KIB: 3, 64 * KIB: 2}),
            (131 * KIB, {KIB: 3, 64 * KIB: 2}),
            (131 * KIB - 1, {KIB: 3, 64 * KIB: 1}),
            (3 * KIB, {KIB: 3}),
            (2 * KIB, {KIB: 2}),
            (1, {}),
        ],
    )
    def test_trim_keeps_the_given_bytes_and_frees_the_largest_first(
        self, keep: int, left: dict[int, int]
    ) -> None:
        pool = Pool(KIB, 64 * KIB)
        fill(pool, *[KIB] * 3, *[64 * KIB] * 2)
        before = pool.stats().idle_bytes
        assert pool.trim(keep) == before - pool.stats().idle_bytes
        assert idle(pool) == left

    def test_trim_frees_the_oldest_and_keeps_the_newest(self) -> None:
        pool = Pool(KIB, KIB)
        for stamp in (b"1", b"2", b"3"):
            views = [pool.view(KIB) for _ in range(3)]
            for view in views:
                view[:1] = stamp
            del view
            views.clear()
        pool.trim(keep_bytes=KIB)
        assert bytes(pool.view(1)) == b"3"

    @pytest.mark.parametrize(
        ("keep", "error"), [(-1, ValueError), (2**64, OverflowError), (1.5, TypeError)]
    )
    def test_trim_raises_for_invalid_sizes(self, keep: int, error: type[Exception]) -> None:
        with pytest.raises(error):
            Pool().trim(keep)

    def test_trim_empties_a_size_class_of_thousands(self) -> None:
        pool = Pool(KIB, KIB, 5000)
        fill(pool, *[KIB] * 5000)
        assert pool.trim() == 5000 * KIB


class TestClose:
    """``close()`` frees idle memory and refuses further requests."""

    def test_close_frees_idle_memory_and_refuses_requests(self, pool: Pool) -> None:
        view, alloc, empty = pool.view(100), pool.allocate(100), pool.allocator()
        fill(pool, 64, 4096)
        assert not pool.closed
        pool.close()
        assert pool.closed
        assert pool.stats().idle_bytes == 0
        for refused in (pool.view, pool.allocate, empty.allocate):
            for n in (0, 100, 1 << 20):
                with pytest.raises(PoolClosedError, match=rf"closed.*\b{n}\b"):
                    refused(n)
        # Buffers in use stay valid, and are freed when they are returned.
        view[:] = b"v" * 100
        alloc.bytes()[:] = b"a" * 100
        assert (bytes(view), bytes(alloc.bytes())) == (b"v" * 100, b"a" * 100)
        alloc.release()
        del view
        stats = pool.stats()
        assert (stats.outstanding, stats.idle_bytes) == (0, 0)
        pool.close()
        assert (pool.trim(), pool.decay()) == (0, 0)

    def test_buffers_freed_by_or_after_close_are_counted(self) -> None:
        pool = Pool(KIB, KIB)
        in_use = pool.view(1)
        fill(pool, 1, 1)
        pool.close()
        assert freed(pool, "closed") == 2
        del in_use
        assert freed(pool, "closed") == 3

    def test_with_block_closes_the_pool(self) -> None:
        with Pool() as pool:
            pool.view(100)
            assert pool.stats().idle_bytes
        assert pool.closed
        assert pool.stats().idle_bytes == 0
        with pytest.raises(ZeroDivisionError), Pool() as pool:
            1 / 0  # noqa: B018
        assert pool.closed

    def test_pool_closed_error_is_a_misuse_error(self) -> None:
        assert issubclass(PoolClosedError, bytepool.MisuseError)
