"""Measure the resident memory of a process after a burst, and under a mixed load.

Each case runs in a separate process, and the contenders take turns. Without arguments, all cases
run, and tables are printed. Resident memory includes buffers in use, idle buffers, and memory that
the allocator keeps.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable

KIB, MIB = 1 << 10, 1 << 20
LIVE = 16
TUNED = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
# name: (source of the memory, options of the pool, environment that selects the allocator)
BURSTS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "bytepool": ("pool", {}, {}),
    "bytearray": ("bytearray", {}, {}),
    "bytearray, glibc tuned": ("bytearray", {}, TUNED),
}
MIXED: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "bytepool": ("pool", {}, {}),
    "max_idle_bytes=16 MiB": ("pool", {"max_idle_bytes": 16 * MIB}, {}),
    "max_idle_bytes=4 MiB": ("pool", {"max_idle_bytes": 4 * MIB}, {}),
    "bytearray": ("bytearray", {}, {}),
    "np.empty": ("np.empty", {}, {}),
    "np.empty, glibc tuned": ("np.empty", {}, TUNED),
}


def allocate_function(kind: str, pool: Pool) -> Callable[[int], memoryview]:
    if kind == "pool":
        return pool.view
    if kind == "bytearray":
        return lambda n: memoryview(bytearray(n))
    import numpy as np

    return lambda n: np.empty(n, np.uint8).data


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * KIB


def write(view: memoryview) -> None:
    """Write all bytes of the view, as a received message does."""
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(view)), 1, len(view))


def mixed_size(choose: random.Random) -> int:
    """Return a random size from 64 KiB to 4 MiB, spread evenly over the powers of two."""
    return int(64 * KIB * 64 ** choose.random())


def burst(kind: str, options: dict[str, Any], gibibytes: float = 1) -> dict[str, float]:
    """Allocate a burst among short-lived small objects, and free all of it in random order."""
    choose = random.Random(1)
    pool = Pool(**options)
    take = allocate_function(kind, pool)
    others = [bytes(choose.randrange(100, 20_000)) for _ in range(6500)]

    def other_work(times: int) -> None:
        for _ in range(times):
            others[choose.randrange(len(others))] = bytes(choose.randrange(100, 20_000))

    other_work(16_000)
    gc.collect()
    start = resident()
    live: list[memoryview] = []
    size = 0
    while size < gibibytes * (1 << 30):
        live.append(take(mixed_size(choose)))
        write(live[-1])
        size += len(live[-1])
        other_work(8)
    peak = resident()
    while live:
        del live[choose.randrange(len(live))]
        other_work(8)
    returned = resident()
    trimmed = pool.trim()
    end = resident()
    return {
        "start": start,
        "peak": peak,
        "returned": returned,
        "trimmed": trimmed,
        "end": end,
        "ratio": end / start,
    }


def mixed(kind: str, options: dict[str, Any], times: int = 6000) -> dict[str, float]:
    """Keep 16 buffers alive. Each step replaces the oldest one, and writes the new one."""
    choose = random.Random(1)
    pool = Pool(max_size=4 * MIB, max_buffers=32, **options)
    take = allocate_function(kind, pool)
    sizes = [mixed_size(choose) for _ in range(times)]
    live: list[memoryview | None] = [None] * LIVE
    start = resident()
    ratios, lent = [], []
    seconds = 0.0
    for i, n in enumerate(sizes):
        begin = time.perf_counter()
        live[i % LIVE] = None
        view = live[i % LIVE] = take(n)
        write(view)
        seconds += time.perf_counter() - begin
        if i > times // 3:
            alive = sum(len(each) for each in live if each)
            ratios.append((resident() - start) / alive)
            lent.append(pool.stats().outstanding_bytes / alive)
    pool.trim()
    return {
        "microseconds": seconds / times * 1e6,
        "hit_rate": pool.stats().hit_rate,
        "all": statistics.median(ratios),
        "lent": statistics.median(lent),
        # The trim freed all idle memory, so only buffers in use are left.
        "trimmed": (resident() - start) / sum(len(each) for each in live if each),
    }


def run(case: str, name: str) -> dict[str, float]:
    _, _, environment = (BURSTS if case == "burst" else MIXED)[name]
    done = subprocess.run(
        [sys.executable, __file__, case, name],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def median(rounds: list[dict[str, float]], key: str) -> float:
    return statistics.median(figures[key] for figures in rounds)


def tables(rounds: int) -> None:
    from rich.progress import track

    cases = [("burst", name) for name in BURSTS] + [("mixed", name) for name in MIXED]
    seen: dict[tuple[str, str], list[dict[str, float]]] = {case: [] for case in cases}
    for case in track(cases * rounds, "measuring", disable=not sys.stdout.isatty()):
        seen[case].append(run(*case))

    print("| burst of 1 GiB | start | peak | all returned | trimmed | end / start |")
    print("|---|---|---|---|---|---|")
    for name in BURSTS:
        figures = seen["burst", name]
        cells = [f"{median(figures, key) / MIB:,.0f} MiB" for key in ("start", "peak", "returned")]
        end = f"{median(figures, 'end') / MIB:,.0f} MiB"
        print(f"| {name} | {' | '.join(cells)} | {end} | {median(figures, 'ratio'):.2f} |")
    print()
    print("| 64 KiB to 4 MiB, 16 alive | resident / alive | lent / alive | hits | time | spread |")
    print("|---|---|---|---|---|---|")
    for name in MIXED:
        figures = seen["mixed", name]
        times = [each["microseconds"] for each in figures]
        pooled = MIXED[name][0] == "pool"
        lent = f"{median(figures, 'lent'):.2f}" if pooled else ""
        hits = f"{median(figures, 'hit_rate'):.1%}" if pooled else ""
        print(
            f"| {name} | {median(figures, 'all'):.2f} | {lent} | {hits} | "
            f"{statistics.median(times):.0f} µs | {min(times):.0f} µs to {max(times):.0f} µs |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", nargs="?", choices=["burst", "mixed"])
    parser.add_argument("name", nargs="?", default="bytepool")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not options.case:
        tables(options.rounds)
        return
    kind, made, _ = (BURSTS if options.case == "burst" else MIXED)[options.name]
    measure: Callable[[str, dict[str, Any]], dict[str, float]] = (
        burst if options.case == "burst" else mixed
    )
    print(json.dumps(measure(kind, made)))


if __name__ == "__main__":
    main()
