"""Threads that switch constantly share a pool and allocators.

As in ``stress.rs``, every buffer in use carries the stamp of the thread that owns it. A buffer that
was just taken must carry none, and at the end all counters must be exact. ``make stress`` makes
10^8 calls.
"""

from __future__ import annotations

import struct
import sys
import threading
from collections import deque
from contextlib import suppress

import pytest
from helpers import repetitions

from bytepool import MisuseError, Pool

THREADS = 6
CALLS = repetitions(short=200_000, long=100_000_000)
CALLS_PER_ROUND = 3  # a view is taken, another one returned, and an allocator is used
SIZES = [8 + 37 * i % 1200 for i in range(64)]
STAMP = struct.Struct("Q")
NO_OWNER = 0


class Stress:
    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self.pool = Pool(64, 1024, 8, idle_timeout=0.01)
        self.shared = [self.pool.allocator() for _ in range(3)]
        self.exchange: deque[memoryview] = deque()
        self.failures: list[BaseException] = []
        self.allocated = [0] * THREADS

    def run(self) -> None:
        threads = [threading.Thread(target=self.work_and_report, args=(i,)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def work_and_report(self, index: int) -> None:
        try:
            self.work(index)
        except BaseException as error:
            self.failures.append(error)

    def work(self, index: int) -> None:
        take, exchange, owner = self.pool.view, self.exchange, index + 1
        pack, unpack = STAMP.pack_into, STAMP.unpack_from
        alloc = self.shared[index % 3]
        for i in range(self.rounds):
            view = take(SIZES[i & 63])
            if unpack(view)[0] != NO_OWNER:
                raise AssertionError(f"{unpack(view)} owns these bytes")
            pack(view, 0, owner)
            exchange.append(view)
            # This thread now owns the only reference, whichever thread stamped the buffer.
            view = exchange.popleft()
            if not 0 < unpack(view)[0] <= THREADS:
                raise AssertionError(f"{unpack(view)} is the stamp of a buffer in use")
            pack(view, 0, NO_OWNER)
            del view
            with suppress(MisuseError):
                # Two threads share the allocator, so about half of these calls raise.
                if i & 1:
                    alloc.release()
                else:
                    self.check_no_owner(alloc.allocate(SIZES[i & 31]))
                    self.allocated[index] += 1
            if i & 4095 == index:
                self.check_counters()

    def check_no_owner(self, view: memoryview) -> None:
        """The other thread may release this buffer at any time, so nobody stamps it."""
        if STAMP.unpack_from(view)[0] != NO_OWNER:
            raise AssertionError(f"{STAMP.unpack_from(view)} owns these bytes")

    def check_counters(self) -> None:
        self.pool.trim(2000)
        self.pool.decay()
        for bucket in self.pool.stats().buckets:
            assert bucket.returned - bucket.freed - bucket.hits == bucket.depth
            assert 0 <= bucket.outstanding <= bucket.peak_outstanding


@pytest.mark.timeout(3600)
def test_no_buffer_has_two_owners_and_all_are_counted() -> None:
    rounds = CALLS // THREADS // CALLS_PER_ROUND
    stress = Stress(rounds)
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        stress.run()
    finally:
        sys.setswitchinterval(before)
    assert not stress.exchange
    for alloc in stress.shared:
        with alloc:
            pass
    stats = stress.pool.stats()
    served = sum(bucket.hits + bucket.misses for bucket in stats.buckets) + stats.transient
    tries = THREADS * (rounds // 2 + 1)
    assert sum(stress.allocated) <= served - rounds * THREADS <= tries
    assert stats.outstanding == 0
    assert stats.outstanding_bytes == 0
    for bucket in stats.buckets:
        assert bucket.hits + bucket.misses == bucket.returned
        assert bucket.returned - bucket.freed - bucket.hits == bucket.depth
    assert stats.dropped >= rounds * THREADS
    assert sum(stress.allocated) > 0
