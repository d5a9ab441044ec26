"""Simulate rules for size classes: steps per doubling, and how many classes up a miss may borrow.

A rule with "of 2" borrows from the second class up only if two buffers are idle there. With "grow
128", each 128th request that finds its class empty does not borrow.

The simulated pool keeps idle buffers and evicts them as `src/evict.rs` does. Each load replaces the
oldest of its live messages in each step, and writes all bytes of the new one. The table shows, for
each rule, the hit rate, the bytes in use and idle per requested byte alive, the bytes in use per
requested byte alive, and which part of the written bytes would not be in a cache of 32 MiB, which
has the bytes that were last written. The last column has the same figures of the pool itself.
"""

from __future__ import annotations

import argparse
import ctypes
import random
import statistics
import sys
import sysconfig
from collections import OrderedDict, defaultdict, deque
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KIB, MIB = 1 << 10, 1 << 20
LIVE = 16
CACHE, PAGE = 32 * MIB, 4 * KIB
# steps, borrowed classes, how many buffers have to be idle in the second of these, and which of the
# requests that find their class empty is a miss all the same (0: none)
RULES = [
    (1, 0, 1, 0),
    (1, 1, 1, 0),
    (2, 0, 1, 0),
    (2, 1, 1, 0),
    (2, 2, 1, 0),
    (2, 2, 2, 0),
    (2, 2, 2, 128),
    (4, 2, 1, 0),
]


class Cache:
    """The pages of memory that were last written."""

    def __init__(self) -> None:
        self.pages: OrderedDict[tuple[int, int], None] = OrderedDict()
        self.written = self.missed = 0

    def write(self, buffer: int, n: int) -> None:
        """Write the first ``n`` bytes of the buffer with this number or address."""
        for start in range(0, n, PAGE):
            page = buffer, start
            size = min(PAGE, n - start)
            self.written += size
            if page in self.pages:
                self.pages.move_to_end(page)
                continue
            self.missed += size
            self.pages[page] = None
            if len(self.pages) * PAGE > CACHE:
                self.pages.popitem(last=False)

    @property
    def miss_rate(self) -> float:
        return self.missed / self.written


class SimulatedPool:
    """Idle buffers per size class, with low-water marks and a limit on all idle bytes."""

    def __init__(
        self,
        steps: int,
        borrow: int,
        second: int,
        grow_every: int,
        max_size: int,
        max_buffers: int,
        cap: int,
    ) -> None:
        self.sizes: list[int] = []
        base = 4 * KIB
        while not self.sizes or self.sizes[-1] < max_size:
            self.sizes += [base + base * step // steps for step in range(steps)]
            base *= 2
        self.sizes = [size for size in self.sizes if size < max_size] + [max_size]
        self.needed = [1, 1, second][: borrow + 1]
        self.grow_every, self.max_buffers, self.cap = grow_every, max_buffers, cap
        self.empty: dict[int, int] = defaultdict(int)  # requests that found their class empty
        # The numbers of the buffers per class, newest last.
        self.idle: list[deque[int]] = [deque() for _ in self.sizes]
        self.low_water = [0] * len(self.sizes)
        self.hits = self.requests = 0

    @property
    def idle_bytes(self) -> int:
        return sum(size * len(buffers) for size, buffers in zip(self.sizes, self.idle, strict=True))

    def acquire(self, n: int) -> tuple[int, int]:
        """Return the index of the class of the buffer that serves the request, and its number."""
        own = next(index for index, size in enumerate(self.sizes) if size >= n)
        self.requests += 1
        if not self.idle[own]:
            self.empty[own] += 1
            if self.grow_every and self.empty[own] % self.grow_every == 0:
                return own, self.requests
        for index, needed in zip(range(own, len(self.sizes)), self.needed, strict=False):
            if len(self.idle[index]) >= needed:
                self.hits += 1
                return index, self.remove(index)
        return own, self.requests

    def remove(self, index: int) -> int:
        buffer = self.idle[index].pop()
        self.low_water[index] = min(self.low_water[index], len(self.idle[index]))
        return buffer

    def give_back(self, index: int, buffer: int) -> None:
        if len(self.idle[index]) == self.max_buffers:
            return
        missing = self.idle_bytes + self.sizes[index] - self.cap
        if missing > 0 and not self.evict(missing):
            self.low_water = [len(buffers) for buffers in self.idle]
            return
        self.idle[index].append(buffer)

    def evict(self, missing: int) -> bool:
        for index in reversed(range(len(self.sizes))):
            while missing > 0 and self.low_water[index]:
                self.idle[index].popleft()
                self.low_water[index] -= 1
                missing -= self.sizes[index]
        return missing <= 0


Figures = tuple[float, float, float, float]


def simulate(pool: SimulatedPool, sizes: list[int]) -> Figures:
    """Return the hit rate, the medians of bytes held and lent, and the rate of cache misses."""
    live: deque[tuple[int, int, int]] = deque()
    held, lent, cache = [], [], Cache()
    for step, n in enumerate(sizes):
        if len(live) == LIVE:
            index, buffer, _ = live.popleft()
            pool.give_back(index, buffer)
        index, buffer = pool.acquire(n)
        cache.write(buffer, n)
        live.append((index, buffer, n))
        if step > len(sizes) // 3:
            requested = sum(n for _, _, n in live)
            in_use = sum(pool.sizes[index] for index, _, _ in live)
            held.append((in_use + pool.idle_bytes) / requested)
            lent.append(in_use / requested)
    medians = statistics.median(held), statistics.median(lent)
    return pool.hits / pool.requests, *medians, cache.miss_rate


def measure(pool: Pool, sizes: list[int]) -> Figures:
    """Return the same figures of the pool itself."""
    live: deque[memoryview] = deque()
    held, lent, cache = [], [], Cache()
    for step, n in enumerate(sizes):
        if len(live) == LIVE:
            live.popleft()
        live.append(pool.view(n))
        cache.write(ctypes.addressof(ctypes.c_char.from_buffer(live[-1])), n)
        if step > len(sizes) // 3:
            requested = sum(map(len, live))
            stats = pool.stats()
            held.append((stats.outstanding_bytes + stats.idle_bytes) / requested)
            lent.append(stats.outstanding_bytes / requested)
    medians = statistics.median(held), statistics.median(lent)
    return pool.stats().hit_rate, *medians, cache.miss_rate


def mixed(choose: random.Random) -> Iterator[int]:
    """64 KiB to 4 MiB, spread evenly over the powers of two."""
    while True:
        yield int(64 * KIB * 64 ** choose.random())


def bimodal(choose: random.Random) -> Iterator[int]:
    """Nine in ten around 100 KiB, one in ten around 3 MiB."""
    while True:
        middle = 100 * KIB if choose.random() < 0.9 else 3 * MIB
        yield int(middle * choose.uniform(0.8, 1.2))


def files(choose: random.Random) -> Iterator[int]:
    """The sizes of this Python's own files, as the demo sends them, in random order."""
    root = Path(sysconfig.get_path("stdlib"))
    found = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    sizes = [size for size in sorted(found) if 0 < size <= 4 * MIB]
    choose.shuffle(sizes)
    return cycle(sizes)


LOADS: dict[str, tuple[Callable[[random.Random], Iterator[int]], int, int]] = {
    # name: (sizes, max_size, max_idle_bytes)
    "mixed": (mixed, 4 * MIB, 64 * MIB),
    "mixed, 16 MiB idle": (mixed, 4 * MIB, 16 * MIB),
    "bimodal": (bimodal, 4 * MIB, 64 * MIB),
    "files": (files, 4 * MIB, 64 * MIB),
    "files, 4 MiB idle": (files, 4 * MIB, 4 * MIB),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=12_000, help="requests per load")
    parser.add_argument("--seeds", type=int, default=3, help="runs per load; the median is shown")
    options = parser.parse_args()
    names = [
        f"{steps} per doubling, borrow {borrow}"
        + (" of 2" if second > 1 else "")
        + (f", grow {grow_every}" if grow_every else "")
        for steps, borrow, second, grow_every in RULES
    ]
    names.append("the pool")
    print("| load | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for load, (make_sizes, max_size, cap) in LOADS.items():
        figures: dict[str, list[Figures]] = defaultdict(list)
        for seed in range(options.seeds):
            sizes = list(islice(make_sizes(random.Random(seed)), options.requests))
            for name, rule in zip(names, RULES, strict=False):
                simulated = SimulatedPool(*rule, max_size, 16, cap)
                figures[name].append(simulate(simulated, sizes))
            with Pool(4 * KIB, max_size, 16, max_idle_bytes=cap, idle_timeout=None) as pool:
                figures[names[-1]].append(measure(pool, sizes))
        cells = []
        for results in figures.values():
            medians = [statistics.median(each) for each in zip(*results, strict=True)]
            cells.append("{:.3f}, {:.2f}, {:.2f}, {:.2f}".format(*medians))
        print(f"| {load} | " + " | ".join(cells) + " |")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
