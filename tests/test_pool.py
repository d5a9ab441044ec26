"""``bytepool.Pool``: configuration, size classes, views."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from typing import Any

import pytest
from helpers import run_python

from bytepool import Pool


def test_arguments_are_positional_or_keyword_and_readable() -> None:
    for pool in (Pool(100, 5000, 3), Pool(max_buffers=3, max_size=5000, min_size=100)):
        assert (pool.min_size, pool.max_size, pool.max_buffers) == (100, 5000, 3)
    with pytest.raises(AttributeError):
        pool.max_size = 1  # type: ignore[misc]


def test_properties_return_the_defaults_of_the_signature() -> None:
    pool = Pool()
    for name, parameter in inspect.signature(Pool).parameters.items():
        if name not in (
            "max_idle_bytes",
            "track",
        ):  # None stands for a value that depends on other settings
            assert getattr(pool, name) == parameter.default
    assert pool.min_size < pool.max_size


@pytest.mark.parametrize(
    ("max_size", "kept"), [(4096, 64 << 20), (16 << 20, 64 << 20), (100 << 20, 400 << 20)]
)
def test_max_idle_bytes_has_a_finite_default(max_size: int, kept: int) -> None:
    assert Pool(max_size=max_size).max_idle_bytes == kept
    assert Pool(max_size=max_size, max_idle_bytes=5).max_idle_bytes == 5


def test_repr_evaluates_to_an_equal_pool() -> None:
    assert repr(Pool(1, 2, 3)) == "Pool(min_size=1, max_size=2, max_buffers=3)"
    assert repr(Pool.null(1, 2, 3)) == "Pool.null(min_size=1, max_size=2, max_buffers=3)"
    everything = Pool(4, 8, 3, max_idle_bytes=4, max_bytes=5, idle_timeout=0.5, zero="release")
    assert repr(everything) == (
        "Pool(min_size=4, max_size=8, max_buffers=3, max_idle_bytes=4, max_bytes=5, "
        "idle_timeout=0.5, zero='release')"
    )
    assert repr(Pool(0, 0, 5)) == "Pool(min_size=0, max_size=0, max_buffers=5)"
    for pool in (
        Pool(),
        Pool.null(),
        Pool(name="it's \n"),
        Pool(idle_timeout=None),
        Pool(idle_timeout=1e-9),
        everything,
    ):
        assert repr(eval(repr(pool), {"Pool": Pool})) == repr(pool)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"min_size": 11, "max_size": 10}, ValueError, r"min_size \(11 bytes\).*max_size \(10 "),
        ({"max_size": 2**40}, ValueError, r"1099511627776.*2\^40"),
        ({"max_size": 2**62}, ValueError, "4611686018427387904"),
        ({"max_size": 2**64}, ValueError, r"max_size \(an integer of 65 bits\).*2\^40"),
        ({"min_size": 2**64}, ValueError, r"min_size \(an integer of 65 bits\).*2\^40"),
        ({"min_size": -1}, ValueError, "min_size must be 0 or more, not -1"),
        ({"max_size": -1}, ValueError, "max_size must be 0 or more, not -1"),
        ({"max_buffers": -3}, ValueError, "max_buffers must be 0 or more, not -3"),
        ({"max_buffers": -(2**100)}, ValueError, "max_buffers.*negative"),
        ({"max_buffers": 2**64}, OverflowError, r"max_buffers \(an integer of 65 bits\)"),
        ({"max_buffers": 2**62, "max_idle_bytes": 2**62}, MemoryError, "cannot allocate"),
        ({"max_buffers": 1.5}, TypeError, "'float'"),
        ({"max_size": "1"}, TypeError, "'str'"),
        ({"max_size": None}, TypeError, "'NoneType'"),
        ({"max_idle_bytes": -1}, ValueError, "max_idle_bytes must be 0 or more, not -1"),
        ({"max_idle_bytes": 2**64}, OverflowError, r"max_idle_bytes \(an integer of 65 bits\)"),
        ({"max_bytes": -1}, ValueError, "max_bytes must be 0 or more, not -1"),
        ({"max_bytes": 2**63}, OverflowError, r"max_bytes \(an integer of 64 bits\)"),
        ({"max_bytes": 1.5}, TypeError, "'float'"),
        ({"idle_timeout": -1}, ValueError, "idle_timeout must be .*, not -1"),
        ({"idle_timeout": float("nan")}, ValueError, "idle_timeout must be .*, not NaN"),
        ({"idle_timeout": float("inf")}, ValueError, "idle_timeout .* None to keep .*, not inf"),
        ({"idle_timeout": "1"}, TypeError, "must be real number, not str"),
        ({"zero": "always"}, ValueError, "zero must be 'never', .*, not \"always\""),
        ({"zero": None}, TypeError, "str"),
        ({"zero": "\ud800"}, ValueError, "zero must be"),
    ],
)
def test_invalid_configuration_raises(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Pool(**arguments)


def test_the_largest_configuration_is_allowed() -> None:
    assert Pool(0, 2**40 - 1, 1).view(100).nbytes == 100


@pytest.mark.parametrize(
    ("asked", "size"),
    [(0, 128), (128, 128), (129, 192), (193, 256), (513, 768), (769, 1000), (1000, 1000)],
)
def test_each_doubling_has_two_size_classes_up_to_max_size(asked: int, size: int) -> None:
    pool = Pool(min_size=100, max_size=1000, max_buffers=1)
    assert pool.view(asked).nbytes == asked
    (bucket,) = pool.stats().buckets
    assert (bucket.size, bucket.misses, bucket.depth) == (size, 1, 1)


def test_request_without_an_idle_buffer_borrows_from_the_next_two_size_classes() -> None:
    pool = Pool(min_size=100, max_size=1000)
    idle = [pool.view(n) for n in (192, 256, 256, 384)]
    del idle  # leaves buffers in three classes; two classes up, the last one is not borrowed
    borrowed = [pool.view(100) for _ in range(3)]
    classes = pool.stats().buckets
    assert [bucket.size for bucket in classes] == [128, 192, 256, 384]
    assert [bucket.outstanding for bucket in classes] == [1, 1, 1, 0]
    assert [bucket.hits for bucket in classes] == [0, 1, 1, 0]
    assert [bucket.depth for bucket in classes] == [0, 0, 1, 1]
    assert pool.stats().outstanding_bytes == 128 + 192 + 256
    assert all(
        bucket.hits + bucket.misses == bucket.outstanding + bucket.returned for bucket in classes
    )
    del borrowed
    assert [bucket.depth for bucket in pool.stats().buckets] == [1, 1, 2, 1]


def test_request_above_max_size_is_transient() -> None:
    pool = Pool(min_size=64, max_size=1000)
    view = pool.view(1001)
    view[:] = b"x" * 1001
    stats = pool.stats()
    assert (stats.transient, stats.outstanding, stats.outstanding_bytes) == (1, 1, 1001)
    del view
    assert pool.stats().outstanding == 0
    assert pool.stats().buckets == ()


def test_newest_buffer_is_reused_first_and_shows_only_the_requested_size() -> None:
    pool = Pool(min_size=64, max_size=64, max_buffers=2)
    first, second = pool.view(64), pool.view(64)
    first[:], second[:] = b"1" * 64, b"2" * 64
    del first
    del second
    assert pool.view(10).tobytes() == b"2" * 10


def test_fresh_memory_is_zeroed(pool: Pool) -> None:
    assert pool.view(3000) == bytes(3000)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_max_buffers_without_bound_reserves_little_memory() -> None:
    code = """
        from bytepool import Pool
        def address_space():
            with open("/proc/self/statm") as statm:
                return int(statm.read().split()[0]) * 4096
        before = address_space()
        pools = [Pool(max_buffers=10**9) for _ in range(10)]
        assert address_space() - before < 64 << 20, address_space() - before
        views = [pools[0].view(4096) for _ in range(1000)]
        views.clear()
        print(pools[0].stats().idle_bytes // 4096)
    """
    assert run_python(code) == "1000\n"


def test_max_buffers_zero_keeps_nothing() -> None:
    pool = Pool(64, 64, 0)
    for _ in range(3):
        pool.view(10)
    (bucket,) = pool.stats().buckets
    assert (bucket.hits, bucket.misses, bucket.discarded, bucket.depth) == (0, 3, 3, 0)


def test_size_class_keeps_at_most_max_buffers() -> None:
    pool = Pool(64, 64, 3)
    views = [pool.view(10) for _ in range(5)]
    views.clear()
    (bucket,) = pool.stats().buckets
    assert (bucket.misses, bucket.returned, bucket.discarded, bucket.depth) == (5, 5, 2, 3)


@pytest.mark.parametrize(("max_size", "times"), [(1024, 3.5), (1025, 4.5), (1500, 4), (2047, 4.5)])
def test_idle_memory_without_other_limits_is_bounded(max_size: int, times: float) -> None:
    pool = Pool(1, max_size, 2)
    views = [pool.view(n) for n in range(max_size + 1)]
    views.clear()
    assert max_size * 2 < pool.stats().idle_bytes <= times * max_size * 2


def test_view_is_a_writable_memoryview_of_exactly_the_requested_size(pool: Pool) -> None:
    view = pool.view(100)
    assert type(view) is memoryview
    assert (view.nbytes, view.shape, view.format, view.itemsize) == (100, (100,), "B", 1)
    assert view.c_contiguous
    assert not view.readonly
    exporter = memoryview(view.obj)
    assert exporter.nbytes == 100, "bytes past the requested size are out of reach"


def test_view_of_zero_bytes_is_empty(pool: Pool) -> None:
    view = pool.view(0)
    assert (view.nbytes, bytes(view)) == (0, b"")


def test_buffer_is_returned_when_its_last_view_dies(pool: Pool) -> None:
    view = pool.view(100)
    assert pool.stats().outstanding == 1
    part = view[10:20]
    del view
    assert pool.stats().outstanding == 1
    del part
    assert pool.stats().outstanding == 0


def test_views_outlive_their_pool() -> None:
    pool = Pool(64, 4096, 4)
    views = [pool.view(1000) for _ in range(3)]
    for i, view in enumerate(views):
        view[:] = bytes([i]) * 1000
    del pool
    for i, view in enumerate(views):
        assert view == bytes([i]) * 1000


@pytest.mark.parametrize("operation", [pickle.dumps, copy.copy, copy.deepcopy])
def test_pools_and_exporters_cannot_be_pickled_or_copied(operation: object, pool: Pool) -> None:
    assert callable(operation)
    with pytest.raises(TypeError, match="cannot pickle or copy a Pool"):
        operation(pool)
    with pytest.raises(TypeError, match=r"cannot pickle 'bytepool\._bytepool\.Lease' object"):
        operation(pool.view(10).obj)


def test_exporter_has_no_public_constructor(pool: Pool) -> None:
    with pytest.raises(TypeError, match="cannot create"):
        type(pool.view(10).obj)()


def test_environment_variable_makes_every_pool_a_null_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTEPOOL", "null")
    pool = Pool(64, 4096, 4)
    assert repr(pool) == "Pool.null(min_size=64, max_size=4096, max_buffers=4)"
    pool.view(100)
    assert (pool.stats().idle_bytes, pool.stats().transient) == (0, 1)
    with pytest.raises(ValueError, match="min_size"):
        Pool(2, 1, 1)
    monkeypatch.setenv("BYTEPOOL", "")
    assert Pool(64, 4096, 4).max_size == 4096


def test_unknown_value_of_the_environment_variable_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYTEPOOL", "nul")
    with pytest.raises(ValueError, match=r"BYTEPOOL.*'null'.*\"nul\""):
        Pool()


def test_null_pool_serves_every_request_and_keeps_nothing() -> None:
    pool = Pool.null()
    for n in (0, 1, 100, 10_000_000):
        with pool.allocate(n) as alloc:
            assert alloc.bytes().nbytes == n
    stats = pool.stats()
    assert (stats.transient, stats.outstanding, stats.idle_bytes, stats.buckets) == (4, 0, 0, ())
    assert stats.peak_outstanding_bytes == 10_000_000
