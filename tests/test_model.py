"""Random sequences of all calls, on a pool and on a null pool, compared with a plain model.

Both pools must answer every step alike: the same contents, and the same errors in the same words.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from bytepool import Allocator, BytesAlreadyAllocatedError, BytesAlreadyReturnedError, Pool

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([64, 65, 1000, 1001, 5000]))
STAMPS = st.integers(1, 255)


@dataclass
class Memory:
    """The expected content of one buffer, and the number of its holders."""

    data: bytearray
    holders: int = 0
    released: bool = False


@dataclass
class Handle:
    """An allocator of each pool, and the memory that they should hold."""

    twins: list[Allocator]
    memory: Memory | None = None


@dataclass
class Holder:
    """A view of the same kind from each pool, and the part of the memory that they show."""

    twins: list[Any]
    memory: Memory
    part: slice


def assert_all_raise(error: type[Exception], *calls: Callable[[], object]) -> None:
    """Check that all calls raise this error in the same words."""
    refused = []
    for call in calls:
        # Not pytest.raises: its traceback would keep the allocator of the call alive.
        try:
            call()
        except error as refusal:
            refused.append(f"{type(refusal)}: {refusal}")
    assert len(refused) == len(calls)
    assert len(set(refused)) == 1


class PoolMachine(RuleBasedStateMachine):
    handles = Bundle("handles")
    holders = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.pools = [Pool(64, 1000, 2), Pool.null()]
        self.live: list[Memory] = []
        self.live_holders: list[Holder] = []
        self.dropped = self.deferred = 0

    def teardown(self) -> None:
        # Hypothesis keeps records of all examples. Each later collection would look at them.
        gc.collect()
        gc.freeze()

    # The model.

    def lend(self, n: int) -> Memory:
        memory = Memory(bytearray(n))
        self.live.append(memory)
        return memory

    def new_holder(self, twins: list[Any], memory: Memory, part: slice | None = None) -> Holder:
        memory.holders += 1
        holder = Holder(twins, memory, part or slice(0, len(memory.data)))
        self.live_holders.append(holder)
        return holder

    def remove_holder(self, memory: Memory) -> None:
        """Count one holder fewer. The last one returns the buffer."""
        memory.holders -= 1
        if memory.holders == 0:
            self.live = [other for other in self.live if other is not memory]
            self.dropped += not memory.released

    def release_handle(self, handle: Handle) -> None:
        memory, handle.memory = handle.memory, None
        if memory is not None:
            memory.released = True
            self.deferred += memory.holders > 1
            self.remove_holder(memory)

    def fill(self, twins: list[Any], memory: Memory, stamp: int) -> None:
        memory.data[:] = bytes([stamp]) * len(memory.data)
        for view in twins:
            view[:] = memory.data

    # The calls of a user.

    @rule(target=handles)
    def new_allocator(self) -> Handle:
        return Handle([pool.allocator() for pool in self.pools])

    @rule(target=handles, n=SIZES, stamp=STAMPS)
    def pool_allocate(self, n: int, stamp: int) -> Handle:
        handle = Handle([pool.allocate(n) for pool in self.pools], self.lend(n))
        assert handle.memory
        handle.memory.holders = 1
        self.fill([alloc.bytes() for alloc in handle.twins], handle.memory, stamp)
        return handle

    @rule(target=holders, handle=handles, n=SIZES, stamp=STAMPS)
    def allocate(self, handle: Handle, n: int, stamp: int) -> Holder | MultipleResults[Holder]:
        calls = [partial(alloc.allocate, n) for alloc in handle.twins]
        if handle.memory is not None:
            assert_all_raise(BytesAlreadyAllocatedError, *calls)
            return multiple()
        twins = [call() for call in calls]
        handle.memory = self.lend(n)
        handle.memory.holders = 1
        self.fill(twins, handle.memory, stamp)
        return self.new_holder(twins, handle.memory)

    @rule(target=holders, handle=handles)
    def bytes_(self, handle: Handle) -> Holder | MultipleResults[Holder]:
        if handle.memory is None:
            assert_all_raise(BytesAlreadyReturnedError, *(alloc.bytes for alloc in handle.twins))
            return multiple()
        return self.new_holder([alloc.bytes() for alloc in handle.twins], handle.memory)

    @rule(handle=handles)
    def release(self, handle: Handle) -> None:
        if handle.memory is None:
            assert_all_raise(BytesAlreadyReturnedError, *(alloc.release for alloc in handle.twins))
            return
        for alloc in handle.twins:
            alloc.release()
        self.release_handle(handle)

    @rule(handle=handles)
    def leave_with(self, handle: Handle) -> None:
        for alloc in handle.twins:
            with alloc:
                pass
        self.release_handle(handle)

    @rule(handle=consumes(handles))
    def drop_allocator(self, handle: Handle) -> None:
        handle.twins.clear()
        memory, handle.memory = handle.memory, None
        if memory is not None:
            self.remove_holder(memory)

    @rule(target=holders, n=SIZES, stamp=STAMPS)
    def pool_view(self, n: int, stamp: int) -> Holder:
        memory = self.lend(n)
        twins = [pool.view(n) for pool in self.pools]
        self.fill(twins, memory, stamp)
        return self.new_holder(twins, memory)

    @rule(target=holders, holder=holders, start=st.integers(0, 300), length=st.integers(0, 300))
    def slice_of(self, holder: Holder, start: int, length: int) -> Holder:
        twins = [view[start : start + length] for view in holder.twins]
        begin = min(holder.part.start + start, holder.part.stop)
        return self.new_holder(twins, holder.memory, slice(begin, begin + len(twins[0])))

    @rule(target=holders, holder=holders, way=st.sampled_from(["frombuffer", "ndarray"]))
    def array_of(self, holder: Holder, way: str) -> Holder | MultipleResults[Holder]:
        size = len(holder.twins[0])
        if size == 0:  # NumPy refuses
            return multiple()
        if way == "frombuffer":
            twins = [np.frombuffer(view, np.uint8) for view in holder.twins]
        else:
            twins = [np.ndarray(size, np.uint8, buffer=view) for view in holder.twins]
        return self.new_holder(twins, holder.memory, holder.part)

    @rule(target=holders, holder=holders)
    def array_of_the_exporter(self, holder: Holder) -> Holder | MultipleResults[Holder]:
        """The array then refers to the exporter without exporting its buffer."""
        exporters = [getattr(view, "obj", None) for view in holder.twins]
        size = len(holder.memory.data)
        if size == 0 or not all(type(exporter).__name__ == "Lease" for exporter in exporters):
            return multiple()
        twins = [np.ndarray(size, np.uint8, buffer=exporter) for exporter in exporters]
        return self.new_holder(twins, holder.memory)

    @rule(holder=holders, stamp=STAMPS)
    def write(self, holder: Holder, stamp: int) -> None:
        content = bytes([stamp]) * len(holder.twins[0])
        holder.memory.data[holder.part] = content
        for view in holder.twins:
            view[:] = memoryview(content)

    @rule(holder=consumes(holders))
    def drop_holder(self, holder: Holder) -> None:
        holder.twins.clear()
        self.live_holders = [other for other in self.live_holders if other is not holder]
        self.remove_holder(holder.memory)

    @rule(n=st.integers(max_value=-1))
    def negative_size(self, n: int) -> None:
        assert_all_raise(ValueError, *(partial(pool.view, n) for pool in self.pools))
        assert_all_raise(ValueError, *(partial(pool.allocate, n) for pool in self.pools))

    @rule()
    def collect(self) -> None:
        gc.collect()

    # The checks after each step.

    @invariant()
    def holders_see_their_own_bytes(self) -> None:
        for holder in self.live_holders:
            for view in holder.twins:
                assert bytes(view) == holder.memory.data[holder.part]

    @invariant()
    def counters_match_the_model(self) -> None:
        for pool in self.pools:
            stats = pool.stats()
            assert stats.outstanding == len(self.live)
            assert (stats.dropped, stats.deferred) == (self.dropped, self.deferred)
            for bucket in stats.buckets:
                assert bucket.hits + bucket.misses == bucket.returned + bucket.outstanding
                assert bucket.returned - bucket.freed - bucket.hits == bucket.depth <= 2
        pooled = self.pools[0].stats()
        big = sum(len(memory.data) > 1000 for memory in self.live)
        assert sum(bucket.outstanding for bucket in pooled.buckets) == len(self.live) - big


# Long enough for a busy machine.
TestPoolMachine = pytest.mark.timeout(600)(PoolMachine.TestCase)
