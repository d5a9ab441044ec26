"""Bursts and quiet times, for as long as one likes, and a look at the memory all the while.

Three pools are used at once: by threads, by tasks that wait for a budget, and for small messages
by both. In the quiet times nobody calls a pool, and what is idle has to go by itself. Memory is
sampled, each sample is held against what the pools promise, and the run can be drawn.
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
IN_FLIGHT = 8  # messages that one thread holds at a time
TASKS = 24
SLACK = 24 * MIB  # what the interpreter, its threads and its allocator may take beside the pools
QUIET = 0.4  # the part of a cycle in which nothing happens


@dataclass(frozen=True)
class Sample:
    seconds: float
    resident: int
    outstanding: int
    idle: int


@dataclass
class Soak:
    """One run: its pools, its clock, and what was seen."""

    seconds: float
    cycles: int
    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    messages: int = 0

    def __post_init__(self) -> None:
        # Twice that passes in a quiet time, so what is idle is gone well before its end.
        idle_timeout = self.cycle * QUIET / 4
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

    def busy(self) -> bool:
        """Whether this is the first part of a cycle, and not the quiet one."""
        return self.now() % self.cycle < self.cycle * (1 - QUIET) and self.now() < self.seconds

    def most_bytes(self) -> int:
        """What all pools together can hold at most: idle, and in the hands of the workers."""
        idle = self.uploads.max_idle_bytes + self.small.max_idle_bytes
        assert self.budget.max_bytes
        return idle + self.budget.max_bytes + THREADS * (IN_FLIGHT + 1) * (4 * MIB + 64 * KIB)

    # What is done

    def upload(self, seed: int) -> int:
        """A thread: messages of all sizes, some of which stay for a while."""
        choose = random.Random(seed)
        held: list[memoryview] = []
        messages = 0
        while self.now() < self.seconds:
            if not self.busy():
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
        """A task: waits for bytes of the budget, and holds them for a while."""
        choose = random.Random(seed)
        while self.now() < self.seconds:
            if not self.busy():
                await asyncio.sleep(self.cycle / 100)
                continue
            n = int(64 * KIB * 64 ** choose.random())
            with await self.budget.allocate_async(n) as alloc:
                write(alloc.bytes())
                await asyncio.sleep(choose.random() / 100)
            self.small.view(choose.randrange(1, 64 * KIB))[:1] = b"x"
            self.messages += 2

    # What is seen

    async def watch(self) -> None:
        """Sample until the end, and hold each sample against the promises."""
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
        most = self.resident + self.most_bytes() + SLACK
        self.expect(
            last.resident <= most, f"{last.resident} bytes are resident, not {most} at most"
        )
        into = last.seconds % self.cycle / self.cycle
        if into > 0.97:  # the end of a quiet time
            self.expect(last.outstanding == 0, f"{last.outstanding} bytes are out in a quiet time")
            self.expect(last.idle == 0, f"{last.idle} bytes lie idle at the end of a quiet time")
            most = self.resident + SLACK
            self.expect(
                last.resident <= most,
                f"{last.resident} bytes are resident in a quiet time, not {most} at most",
            )

    def check_pool(self, pool: Pool, stats: Stats) -> None:
        self.expect(stats.idle_bytes <= pool.max_idle_bytes, f"{pool!r} keeps too much: {stats}")
        if (
            pool.max_bytes is not None
        ):  # used by this thread alone, so the snapshot is of one moment
            held = stats.outstanding_bytes + stats.idle_bytes
            self.expect(held <= pool.max_bytes, f"{pool!r} holds too much: {stats}")
        for bucket in stats.buckets:
            kept = bucket.returned - bucket.freed - bucket.hits
            self.expect(kept == bucket.depth, f"{pool!r} lost something: {bucket}")

    def expect(self, holds: bool, failure: str) -> None:
        if not holds:
            self.failures.append(f"after {self.now():.1f} s {failure}")

    # All of it

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        # Debugging asyncio complains of what takes long, as all does on a busy machine.
        loop.slow_callback_duration = 60
        with ThreadPoolExecutor(THREADS) as threads, ExitStack() as opted:
            opted.enter_context(decay.in_thread(self.uploads))
            opted.enter_context(decay.in_loop(self.budget))
            opted.enter_context(decay.in_loop(self.small))
            uploads = [loop.run_in_executor(threads, self.upload, seed) for seed in range(THREADS)]
            tasks = [self.request(seed) for seed in range(TASKS)]
            await asyncio.gather(self.watch(), self.progress(), *tasks)
            self.messages += sum(await asyncio.gather(*uploads))
        for pool in self.pools:
            stats = pool.stats()
            self.expect(stats.outstanding == 0, f"{pool!r} still has something out: {stats}")

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
        axes.stackplot(seconds, mib[0], mib[1], labels=["outstanding", "idle"], alpha=0.7)
        axes.plot(seconds, mib[2], color="black", linewidth=1, label="resident, beyond the start")
        for cycle in range(self.cycles):
            quiet = (cycle + 1 - QUIET) * self.cycle
            axes.axvspan(quiet, (cycle + 1) * self.cycle, color="grey", alpha=0.15, linewidth=0)
        axes.set(xlabel="seconds (grey: nobody calls a pool)", ylabel="MiB", xlim=(0, self.seconds))
        axes.set_ylim(0, 1.2 * max(mib[2]))
        axes.legend(loc="upper right", ncols=3, framealpha=1)
        picture.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(picture, metadata={"Date": None})

    def report(self) -> str:
        most = max(self.samples, key=lambda sample: sample.resident)
        last = self.samples[-1]
        return (
            f"{self.messages:,} messages in {self.seconds:.0f} s and {self.cycles} cycles, "
            f"{len(self.samples):,} samples: resident {self.resident / MIB:.0f} MiB at the start, "
            f"{most.resident / MIB:.0f} at most ({most.outstanding / MIB:.0f} out, "
            f"{most.idle / MIB:.0f} idle), {last.resident / MIB:.0f} at the end; "
            f"{len(self.failures)} failures"
        )


def write(view: memoryview) -> None:
    """Touch every page, as a message that arrives does."""
    if len(view):
        ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1, len(view))


def resident() -> int:
    """Bytes of this process that are in memory."""
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
