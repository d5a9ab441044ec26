"""Alternate bursts and pauses, and check the memory of the process all the time.

Threads use one pool, tasks that wait for a budget use a second one, and both use a third one for
small messages. During a pause no pool is called, and idle memory must decay without calls. Each
sample of the memory is checked against the limits of the pools. ``--picture`` draws the run.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from bytepool import Pool, Stats, decay

KIB, MIB = 1 << 10, 1 << 20
THREADS = 4
IN_FLIGHT = 8  # messages that a thread holds at a time
TASKS = 24
SLACK = 24 * MIB  # bytes that the interpreter and the C library may use beside the pools
PAUSE = 0.4  # the fraction of a cycle in which no pool is called


@dataclass(frozen=True)
class Sample:
    seconds: float
    resident: int
    outstanding: int
    idle: int


@dataclass
class Soak:
    """One run: its pools, its clock, its samples and its failures."""

    seconds: float
    cycles: int
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    messages: int = 0

    def __post_init__(self) -> None:
        # Idle memory is freed after at most twice this time, well before a pause ends.
        idle_timeout = self.cycle * PAUSE / 4
        self.uploads = Pool(max_size=4 * MIB, idle_timeout=idle_timeout)
        self.budget = Pool(max_size=4 * MIB, idle_timeout=idle_timeout, max_bytes=32 * MIB)
        self.small = Pool(KIB, 64 * KIB, 64, max_idle_bytes=2 * MIB, idle_timeout=idle_timeout)
        self.pools = [self.uploads, self.budget, self.small]
        self.begin = time.monotonic()
        self.resident = resident()

    @property
    def cycle(self) -> float:
        return self.seconds / self.cycles

    def now(self) -> float:
        return time.monotonic() - self.begin

    def in_burst(self) -> bool:
        """Return whether the current cycle is in its burst."""
        return self.now() % self.cycle < self.cycle * (1 - PAUSE) and self.now() < self.seconds

    def max_pool_bytes(self) -> int:
        """Return the most bytes that all pools together can hold, idle and in use."""
        idle = self.uploads.max_idle_bytes + self.small.max_idle_bytes
        assert self.budget.max_bytes
        return idle + self.budget.max_bytes + THREADS * (IN_FLIGHT + 1) * (4 * MIB + 64 * KIB)

    # The load

    def upload(self, seed: int) -> int:
        """Handle messages of all sizes in a thread, and keep some of them for a while."""
        choose = random.Random(seed)
        held: list[memoryview] = []
        messages = 0
        while self.now() < self.seconds:
            if not self.in_burst():
                held.clear()
                time.sleep(self.cycle / 100)
                continue
            n = int(64 * KIB * 64 ** choose.random())
            view = self.uploads.view(n)
            write(view)
            held.append(view)
            del view
            with self.small.allocate(choose.randrange(64 * KIB)) as alloc:
                write(alloc.bytes())
            if len(held) == IN_FLIGHT:
                del held[choose.randrange(IN_FLIGHT)]
            messages += 2
        return messages

    async def request(self, seed: int) -> None:
        """Wait in a task for bytes of the budget, and hold them for a while."""
        choose = random.Random(seed)
        while self.now() < self.seconds:
            if not self.in_burst():
                await asyncio.sleep(self.cycle / 100)
                continue
            n = int(64 * KIB * 64 ** choose.random())
            with await self.budget.allocate_async(n) as alloc:
                write(alloc.bytes())
                await asyncio.sleep(choose.random() / 100)
            self.small.view(choose.randrange(1, 64 * KIB))[:1] = b"x"
            self.messages += 2

    # The checks

    async def watch(self) -> None:
        """Take and check samples until the end."""
        while self.now() < self.seconds:
            self.sample()
            await asyncio.sleep(min(self.cycle / 100, 0.5))
        for pool in self.pools:
            pool.trim()
        gc.collect()
        self.sample()

    def sample(self) -> None:
        stats = [pool.stats() for pool in self.pools]
        self.samples.append(
            Sample(
                self.now(),
                resident(),
                sum(each.outstanding_bytes for each in stats),
                sum(each.idle_bytes for each in stats),
            )
        )
        for pool, each in zip(self.pools, stats, strict=True):
            self.check_pool(pool, each)
        last = self.samples[-1]
        limit = self.resident + self.max_pool_bytes() + SLACK
        self.expect(
            last.resident <= limit, f"{last.resident} bytes are resident, the limit is {limit}"
        )
        if last.seconds % self.cycle / self.cycle > 0.97:  # the end of a pause
            self.expect(
                last.outstanding == 0, f"{last.outstanding} bytes are in use during a pause"
            )
            self.expect(last.idle == 0, f"{last.idle} bytes are idle at the end of a pause")
            limit = self.resident + SLACK
            self.expect(
                last.resident <= limit,
                f"{last.resident} bytes are resident during a pause, the limit is {limit}",
            )

    def check_pool(self, pool: Pool, stats: Stats) -> None:
        self.expect(
            stats.idle_bytes <= pool.max_idle_bytes, f"{pool!r} exceeds max_idle_bytes: {stats}"
        )
        # Only this thread uses the pool with a budget, so the snapshot is consistent.
        if pool.max_bytes is not None:
            held = stats.outstanding_bytes + stats.idle_bytes
            self.expect(held <= pool.max_bytes, f"{pool!r} exceeds max_bytes: {stats}")
        for bucket in stats.buckets:
            kept = bucket.returned - bucket.freed - bucket.hits
            self.expect(kept == bucket.depth, f"{pool!r} lost buffers: {bucket}")

    def expect(self, holds: bool, failure: str) -> None:
        if not holds:
            self.failures.append(f"after {self.now():.1f} s {failure}")

    # The run

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        # In debug mode asyncio warns about slow steps, which a busy machine always has.
        loop.slow_callback_duration = 60
        with ThreadPoolExecutor(THREADS) as threads, ExitStack() as stack:
            stack.enter_context(decay.in_thread(self.uploads))
            stack.enter_context(decay.in_loop(self.budget))
            stack.enter_context(decay.in_loop(self.small))
            uploads = [loop.run_in_executor(threads, self.upload, seed) for seed in range(THREADS)]
            tasks = [self.request(seed) for seed in range(TASKS)]
            await asyncio.gather(self.watch(), self.progress(), *tasks)
            self.messages += sum(await asyncio.gather(*uploads))
        for pool in self.pools:
            stats = pool.stats()
            self.expect(stats.outstanding == 0, f"{pool!r} has buffers in use at the end: {stats}")

    async def progress(self) -> None:
        if not sys.stderr.isatty():
            return
        from rich.progress import Progress

        with Progress() as bar:
            task = bar.add_task("soaking", total=self.seconds)
            while self.now() < self.seconds:
                bar.update(task, completed=self.now())
                await asyncio.sleep(0.2)

    def draw(self, picture: Path) -> None:
        import matplotlib as mpl

        mpl.use("svg")
        mpl.rcParams["svg.hashsalt"] = "bytepool"
        from matplotlib import pyplot

        seconds = [sample.seconds for sample in self.samples]
        mib = [
            [number / MIB for number in column]
            for column in (
                [sample.outstanding for sample in self.samples],
                [sample.idle for sample in self.samples],
                [sample.resident - self.resident for sample in self.samples],
            )
        ]
        figure, axes = pyplot.subplots(figsize=(9, 3.6), layout="constrained")
        axes.stackplot(seconds, mib[0], mib[1], labels=["in use", "idle"], alpha=0.7)
        axes.plot(seconds, mib[2], color="black", linewidth=1, label="resident, above the start")
        for cycle in range(self.cycles):
            pause = (cycle + 1 - PAUSE) * self.cycle
            axes.axvspan(pause, (cycle + 1) * self.cycle, color="grey", alpha=0.15, linewidth=0)
        axes.set(xlabel="seconds (grey: no pool is called)", ylabel="MiB", xlim=(0, self.seconds))
        axes.set_ylim(0, 1.2 * max(mib[2]))
        axes.legend(loc="upper right", ncols=3, framealpha=1)
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, metadata={"Date": None})

    def report(self) -> str:
        peak = max(self.samples, key=lambda sample: sample.resident)
        last = self.samples[-1]
        return (
            f"{self.messages:,} messages in {self.seconds:.0f} s and {self.cycles} cycles, "
            f"{len(self.samples):,} samples: resident {self.resident / MIB:.0f} MiB at the start, "
            f"{peak.resident / MIB:.0f} at the peak ({peak.outstanding / MIB:.0f} in use, "
            f"{peak.idle / MIB:.0f} idle), {last.resident / MIB:.0f} at the end; "
            f"{len(self.failures)} failures"
        )


def write(view: memoryview) -> None:
    """Write to every page, as an arriving message does."""
    if len(view):
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1, len(view))


def resident() -> int:
    """Return the resident bytes of this process."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * KIB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--cycles", type=int, default=6)
    parser.add_argument("--picture", type=Path, help="draw the run into this file (SVG)")
    options = parser.parse_args()
    threading.stack_size(MIB)
    soak = Soak(options.seconds, options.cycles)
    asyncio.run(soak.run())
    if options.picture:
        soak.draw(options.picture)
    print(soak.report())
    sys.exit("\n".join(soak.failures[:20]) or 0)


if __name__ == "__main__":
    main()
