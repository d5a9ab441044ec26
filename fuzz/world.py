"""The objects that an input has created, and the checks that they must pass."""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING, Any

import bytepool
from fuzz.hostile import HostileError, HostileExit, Maker
from fuzz.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DOCUMENTED = (
    BufferError,
    EOFError,
    HostileError,
    HostileExit,
    MemoryError,
    OSError,
    OverflowError,
    TypeError,
    ValueError,
    bytepool.MisuseError,
)
MAX_KEPT = 24  # objects of each kind


class Memory:
    """The expected content of a buffer, which repeats one byte."""

    def __init__(self, lease: Any) -> None:
        self.lease = lease
        self.stamp = 0
        self.size = memoryview(lease).nbytes

    def write(self, stamp: int) -> None:
        self.stamp = stamp
        view = memoryview(self.lease)
        assert view.nbytes == self.size
        view[:] = bytes([stamp]) * self.size


class World:
    """The objects that an input has created so far."""

    def __init__(self, reader: Reader, steps: Sequence[Callable[[World], Any]]) -> None:
        self.read = reader
        self.steps = steps
        self.make = Maker(reader, self.interfere)
        self.pools: list[bytepool.Pool] = []
        self.things: list[Any] = []
        self.views: list[tuple[memoryview, Memory]] = []
        self.depth = 0
        self.stamp = 0
        self.searched = False

    # Returned objects are kept, and later calls use them.

    def keep(self, thing: Any) -> None:
        if isinstance(thing, memoryview):
            self.keep_view(thing)
        elif thing is not None and not isinstance(thing, (int, float, str, bytes)):
            kept = self.pools if isinstance(thing, bytepool.Pool) else self.things
            kept.append(thing)
            del kept[:-MAX_KEPT]

    def keep_view(self, view: memoryview) -> None:
        lease = view.obj
        if type(lease).__name__ != "Lease":
            return
        known = next((memory for _, memory in self.views if memory.lease is lease), None)
        memory = known or Memory(lease)
        if known is None:
            self.stamp = self.stamp % 255 + 1
            memory.write(self.stamp)
        self.views.append((view, memory))
        del self.views[:-MAX_KEPT]

    def any_of(self, kept: list[Any]) -> Any:
        return self.read.pick(kept) if kept else self.make.anything()

    def pool(self) -> Any:
        if not self.pools:
            self.pools.append(bytepool.Pool(64, 4096, 2))
        return self.read.pick(self.pools)

    def view(self) -> Any:
        return self.read.pick(self.views)[0] if self.views else memoryview(b"none")

    def interfere(self) -> None:
        """Run another call in the middle of a call."""
        if self.depth > 2:
            return
        match self.read.below(4):
            case 0:
                self.drop()
            case 1 if self.pools:
                self.read.pick(self.pools).close()
            case _:
                self.step()

    def step(self) -> None:
        self.depth += 1
        try:
            self.keep(self.read.pick(self.steps)(self))
        except DOCUMENTED:
            pass
        finally:
            self.depth -= 1

    def drop(self) -> None:
        kind = self.read.below(8)
        for kept in (self.views, self.things, self.pools) if kind == 0 else ():
            kept.clear()
        for kept in (self.views, self.things, self.things, self.pools)[kind % 4 :][:1]:
            if kept:
                kept.pop(self.read.below(len(kept)))

    # The checks.

    def check(self) -> None:
        checked = list(self.views)
        for view, memory in checked:
            try:
                held = view.tobytes()
            except ValueError:  # the view was released explicitly
                self.views = [pair for pair in self.views if pair[0] is not view]
                continue
            assert held == bytes([memory.stamp]) * len(held), (
                f"bytes in a buffer of {memory.size} changed"
            )
        for pool in self.pools:
            check_numbers(pool)

    def end(self) -> None:
        pools, self.read = self.pools, Reader(b"")
        self.make = Maker(self.read, lambda: None)
        self.pools, self.things, self.views = [], [], []
        gc.collect()
        for pool in pools:
            deadline = time.monotonic() + 10  # a thread may still retry a wakeup
            while pool.stats().outstanding and time.monotonic() < deadline:
                time.sleep(0.001)
            stats = pool.stats()
            assert (stats.outstanding, stats.outstanding_bytes, stats.deferred_bytes) == (0, 0, 0)
            check_numbers(pool)


def check_numbers(pool: bytepool.Pool) -> None:
    stats = pool.stats()
    idle = in_use = 0
    for bucket in stats.buckets:
        assert bucket.returned - bucket.freed - bucket.hits == bucket.depth <= pool.max_buffers
        assert 0 <= bucket.outstanding <= bucket.peak_outstanding
        idle += bucket.size * bucket.depth
        in_use += bucket.size * bucket.outstanding
    assert stats.idle_bytes == idle <= pool.max_idle_bytes
    assert stats.outstanding_bytes == in_use + stats.transient_bytes
    assert pool.max_bytes is None or stats.outstanding_bytes + idle <= pool.max_bytes
    assert not (pool.closed and idle)
    # The branches of these checks show the fuzzer which events an input has caused.
    assert not stats.deferred or stats.deferred_bytes <= stats.outstanding_bytes
    assert not stats.deferred_bytes or (stats.deferred and stats.outstanding)
    assert not stats.freed["closed"] or pool.closed
    assert not stats.freed["decayed"] or pool.idle_timeout is not None
    assert not stats.freed["trimmed"] or stats.peak_idle_bytes
    assert not stats.hit_rate or stats.peak_outstanding
