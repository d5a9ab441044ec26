"""``bytepool.Stats``: every counter, the conservation law, and the printed table."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest

from bytepool import BucketStats, Pool, Stats


def busy_pool() -> tuple[Pool, list[object]]:
    """Return a pool with every kind of activity, and the objects that hold its buffers."""
    pool = Pool(min_size=1024, max_size=4096, max_buffers=2)
    views = [pool.view(1000) for _ in range(5)]
    views.clear()  # 5 misses, 2 kept, 3 discarded, 5 dropped
    for _ in range(4):
        pool.allocate(1024).release()  # 4 hits
    in_use: list[object] = [pool.allocate(4000), pool.view(5000)]  # a miss, a transient request
    alloc = pool.allocate(4096)
    in_use.append(alloc.bytes())
    alloc.release()  # deferred
    return pool, in_use


@pytest.mark.parametrize("kind", [Stats, BucketStats])
def test_a_snapshot_is_made_without_the_generated_init(
    kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GIL it locks a closure cell that all threads share, also those that a fork ends."""
    monkeypatch.setattr(kind, "__init__", None)
    pool, _in_use = busy_pool()
    assert len(pool.stats().buckets) == 2


def test_stats_has_every_counter() -> None:
    pool, _in_use = busy_pool()
    assert pool.stats() == Stats(
        name=None,
        buckets=(
            BucketStats(
                size=1024,
                hits=4,
                misses=5,
                returned=9,
                discarded=3,
                capped=0,
                trimmed=0,
                decayed=0,
                closed=0,
                depth=2,
                peak_depth=2,
                peak_outstanding=5,
            ),
            BucketStats(
                size=4096,
                hits=0,
                misses=2,
                returned=0,
                discarded=0,
                capped=0,
                trimmed=0,
                decayed=0,
                closed=0,
                depth=0,
                peak_depth=2,
                peak_outstanding=2,
            ),
        ),
        outstanding=3,
        outstanding_bytes=4096 + 5000 + 4096,
        peak_outstanding=5 + 2 + 1,
        peak_outstanding_bytes=5 * 1024 + 2 * 4096 + 5000,
        idle_bytes=2048,
        peak_idle_bytes=2 * 1024 + 2 * 4096,
        transient=1,
        transient_bytes=5000,
        waits=0,
        dropped=5,
        deferred=1,
        deferred_bytes=4096,
    )


def test_only_buckets_with_activity_are_listed() -> None:
    pool = Pool(64, 1 << 20)
    assert pool.stats().buckets == ()
    pool.view(1000)
    assert [bucket.size for bucket in pool.stats().buckets] == [1024]


def test_conservation_law_holds_while_buffers_are_returned() -> None:
    pool, in_use = busy_pool()
    while True:
        stats = pool.stats()
        for bucket in stats.buckets:
            assert bucket.hits + bucket.misses == bucket.returned + bucket.outstanding
            assert bucket.returned - bucket.freed - bucket.hits == bucket.depth
        assert stats.outstanding == len(in_use)
        if not in_use:
            break
        in_use.pop()
    assert (stats.outstanding_bytes, stats.dropped) == (0, 7)


def test_hit_rate_is_hits_per_pooled_request() -> None:
    pool, _in_use = busy_pool()
    assert pool.stats().hit_rate == pytest.approx(4 / 11)
    assert Pool().stats().hit_rate == 0.0


def test_snapshot_is_frozen_and_can_be_copied() -> None:
    pool, in_use = busy_pool()
    stats = pool.stats()
    twin = pool.stats()
    in_use.clear()
    assert stats == twin != pool.stats()
    things: list[Any] = [stats, *stats.buckets]
    for thing in things:
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.size = 1
    for same in (pickle.loads(pickle.dumps(stats)), copy.deepcopy(stats)):
        assert same == stats
    assert eval(repr(stats)) == stats


def test_as_dict_is_plain_json() -> None:
    pool, _in_use = busy_pool()
    stats = pool.stats()
    plain = stats.as_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["transient"] == 1
    assert plain["buckets"][0] == dataclasses.asdict(stats.buckets[0])


def test_str_is_a_table() -> None:
    pool, _in_use = busy_pool()
    for _ in range(1100):
        pool.allocate(1024).release()
    assert str(pool.stats()) == (
        " size   hits  misses  returned  freed  idle  in use  peak\n"
        "1 KiB  1,104       5     1,109      3     2       0     5\n"
        "4 KiB      0       2         0      0     0       2     2\n"
        "in use: 3 buffers, 12.9 KiB (peak at most 8 buffers, 17.9 KiB)\n"
        "idle: 2 KiB (peak at most 10 KiB), hit rate: 99.4%\n"
        "transient: 1, returned without release: 5, deferred: 1, waits: 0\n"
        "freed: discarded 3\n"
        "released, but still held by views: 4 KiB"
    )


def test_str_of_an_unused_pool() -> None:
    assert str(Pool.null().stats()) == (
        "in use: 0 buffers, 0 B (peak at most 0 buffers, 0 B)\n"
        "idle: 0 B (peak at most 0 B), hit rate: 0.0%\n"
        "transient: 0, returned without release: 0, deferred: 0, waits: 0"
    )


def test_str_prints_sizes_in_their_largest_unit() -> None:
    empty = Pool().stats()
    for n, text in (
        (1023, "1023 B"),
        (1 << 30, "1 GiB"),
        (3 << 39, "1.5 TiB"),
        (5 << 19, "2.5 MiB"),
    ):
        assert f"idle: {text} (" in str(dataclasses.replace(empty, idle_bytes=n))


def test_subtracting_anything_but_a_snapshot_raises() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        Pool().stats() - 1  # type: ignore[operator]


def test_difference_of_snapshots_counts_what_happened_between() -> None:
    pool = Pool(1024, 4096, name="uploads")
    held = [pool.view(1000), pool.view(5000)]
    before = pool.stats()
    pool.allocate(4000).release()
    held.clear()
    pool.trim()
    for _ in range(2):
        pool.allocate(1000).release()
    after = pool.stats()
    between = after - before
    small, large = between.buckets
    assert (small.size, small.hits, small.misses, small.returned) == (1024, 1, 1, 3)
    assert (small.trimmed, small.depth, small.outstanding) == (1, 1, -1)
    assert (large.size, large.misses, large.trimmed) == (4096, 1, 1)
    assert (between.outstanding, between.outstanding_bytes) == (-2, -1024 - 5000)
    assert (between.transient, between.transient_bytes, between.dropped) == (0, -5000, 2)
    assert between.freed == {
        "discarded": 0, "capped": 0, "trimmed": 2, "decayed": 0, "closed": 0
    }  # fmt: skip
    assert (between.name, between.peak_outstanding) == ("uploads", after.peak_outstanding)
    assert "in use: -2 buffers, -5.9 KiB" in str(between)
    nothing = after - after
    assert (nothing.hit_rate, nothing.outstanding, nothing.idle_bytes) == (0, 0, 0)


def test_peaks_of_idle_memory_are_kept() -> None:
    pool = Pool(1024, 4096)
    views = [pool.view(1024) for _ in range(3)]
    views.clear()
    held = [pool.view(1024) for _ in range(3)]
    del held
    pool.trim()
    stats = pool.stats()
    assert (stats.idle_bytes, stats.peak_idle_bytes, stats.buckets[0].peak_depth) == (0, 3072, 3)


def test_deferred_bytes_are_held_after_their_release() -> None:
    pool = Pool(1024, 4096)
    alloc = pool.allocate(4000)
    view = alloc.bytes()
    assert pool.stats().deferred_bytes == 0
    alloc.release()
    assert (pool.stats().deferred, pool.stats().deferred_bytes) == (1, 4096)
    del view
    assert (pool.stats().deferred, pool.stats().deferred_bytes) == (1, 0)


def test_waits_are_counted() -> None:
    pool = Pool(1024, 1024, max_bytes=1024)
    _alloc = pool.allocate(1)
    for _ in range(2):
        with pytest.raises(MemoryError):
            pool.allocate(1, timeout=0.001)
    assert pool.stats().waits == 2


def test_pool_name_is_shown_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool(1024, 4096, 2, name="uploads")
    assert pool.name == pool.stats().name == pool.stats().as_dict()["name"] == "uploads"
    assert repr(pool) == "Pool(min_size=1024, max_size=4096, max_buffers=2, name='uploads')"
    assert "uploads" in repr(pool.allocate(1))
    assert str(pool.stats()).startswith("pool 'uploads'\n")
    assert (Pool().name, Pool.null().name, Pool().stats().name) == (None, None, None)
    monkeypatch.setenv("BYTEPOOL", "null")
    assert "uploads" in repr(Pool(name="uploads"))
    with pytest.raises(TypeError):
        Pool(name=5)  # type: ignore[arg-type]
