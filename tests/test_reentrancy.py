"""Python code that runs in the middle of a call and uses the same pool or allocator."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern, run_python

import bytepool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bytepool import Allocator, Pool


class IndexThatAllocates:
    """A size whose ``__index__`` allocates from the same allocator."""

    def __init__(self, alloc: Allocator) -> None:
        self.alloc = alloc

    def __index__(self) -> int:
        self.alloc.allocate(10)[:] = b"inner one!"
        return 20


def test_size_object_may_allocate_from_the_same_allocator(pool: Pool) -> None:
    alloc = pool.allocator()
    with pytest.raises(bytepool.BytesAlreadyAllocatedError, match="holds 10 bytes"):
        alloc.allocate(IndexThatAllocates(alloc))
    assert bytes(alloc.bytes()) == b"inner one!"
    alloc.release()
    stats = pool.stats()
    assert (stats.outstanding, stats.dropped) == (0, 0)


class Finalizer:
    """An object in a cycle whose ``__del__`` uses the pool and an allocator that is in use."""

    runs = 0

    def __init__(self, pool: Pool, alloc: Allocator, view: memoryview) -> None:
        self.me = self
        self.pool, self.alloc, self.view = pool, alloc, view

    def __del__(self) -> None:
        type(self).runs += 1
        self.pool.view(500)[:] = b"d" * 500
        self.pool.stats()
        repr(self.alloc)
        with self.pool.allocate(100):
            try:
                self.alloc.release()
            except bytepool.BytesAlreadyReturnedError:
                try:
                    self.alloc.allocate(100)[:] = b"a" * 100
                except bytepool.BytesAlreadyAllocatedError:
                    self.alloc.bytes()


def test_finalizer_may_allocate_while_the_first_buffer_is_recorded() -> None:
    """The first record of a pool creates objects, which can start the collector."""
    code = """
        import gc
        from bytepool import Pool

        class Rival:
            def __init__(self):
                self.me = self
            def __del__(self):
                views.append(pool.view(11))

        views, pool = [], Pool(track="all")
        gc.collect()
        for _ in range(100):
            Rival()
        gc.set_threshold(1)
        views.append(pool.view(22))
        gc.collect()
        print(len(views), len(pool.tracked()))
    """
    assert run_python(code, timeout=20) == "101 101\n"


@pytest.fixture
def _collect_constantly() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_collect_constantly")
def test_finalizers_may_use_the_same_allocator_during_a_call(pool: Pool) -> None:
    """Creating a memoryview can start the collector in the middle of allocate() and bytes()."""
    alloc = pool.allocator()
    Finalizer.runs = 0
    for i in range(300):
        Finalizer(pool, alloc, pool.view(50))
        view = None
        try:
            view = alloc.allocate(200) if i % 3 else alloc.bytes()
            view[:] = bytes([i % 256]) * len(view)
            assert view == bytes([i % 256]) * len(view)
        except bytepool.MisuseError:
            pass
        finally:
            del view
    gc.collect()
    assert Finalizer.runs == 300
    with alloc:
        pass
    stats = pool.stats()
    assert stats.outstanding == 0
    for bucket in stats.buckets:
        assert bucket.hits + bucket.misses == bucket.returned


def test_allocate_raises_if_a_finalizer_allocates_first(pool: Pool) -> None:
    """The interrupted call raises, and its buffer is returned without counting as dropped."""
    alloc = pool.allocator()
    seen: list[str] = []

    class Rival:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            with contextlib.suppress(bytepool.BytesAlreadyAllocatedError):
                alloc.allocate(11)[:] = b"rival bytes"
                seen.append("allocated")

    gc.collect()
    gc.disable()
    Rival()
    before = gc.get_threshold()
    allocate = alloc.allocate
    error = None
    gc.set_threshold(1)
    gc.enable()
    try:
        # No object is created before the memoryview inside that could start the collector.
        allocate(1000)
    except bytepool.BytesAlreadyAllocatedError as raised:
        error = str(raised)
    finally:
        gc.set_threshold(*before)
    gc.collect()
    if sys.version_info < (3, 12):
        assert seen == ["allocated"]
    if seen:
        assert error is not None
        assert "holds 11 bytes" in error
        assert bytes(alloc.bytes()) == b"rival bytes"
        assert pool.stats().peak_outstanding == 2, "both calls held a buffer for a moment"
    else:  # since CPython 3.12 the collector runs after the call, so the finalizer comes too late
        assert error is None
        assert alloc.size == 1000
    alloc.release()
    assert (pool.stats().outstanding, pool.stats().dropped) == (0, 0)


def test_weakref_callback_of_a_view_may_use_the_allocator(pool: Pool) -> None:
    alloc = pool.allocator()
    view = alloc.allocate(1000)
    ran = []

    def callback(_: Any) -> None:
        alloc.release()
        alloc.allocate(1000)[:] = pattern(1000)
        ran.append(pool.stats().outstanding)

    watcher = weakref.ref(view, callback)
    del view
    assert watcher() is None
    assert ran in ([1], [2])  # the dying view may still hold its buffer during the callback
    assert alloc.bytes() == pattern(1000)
    assert pool.stats().outstanding == 1


def test_buffers_in_a_reference_cycle_are_returned_by_the_collector(pool: Pool) -> None:
    gc.collect()
    cycle: list[Any] = [pool.view(100), pool.allocate(200)]
    cycle.append(cycle)
    del cycle
    assert pool.stats().outstanding == 2
    gc.collect()
    assert (pool.stats().outstanding, pool.stats().dropped) == (0, 2)
