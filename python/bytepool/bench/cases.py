"""The cases to measure: workloads, contenders and system allocators."""

from __future__ import annotations

import ctypes.util
import importlib.util
import random
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB, MIB = 1 << 10, 1 << 20
ROUND_TRIP_SIZES = (KIB, 64 * KIB, MIB, 16 * MIB)
LIVE = 16  # buffers in use at a time, in the window workloads
WINDOWS = {"1 MiB": (MIB, MIB), "64 KiB-4 MiB": (64 * KIB, 4 * MIB)}
LARGEST = 16 * MIB


TITLES = {
    "calls": "Calls of the pool, and the cheapest view",
    "round trip": "Round trip: take, return",
    "window": "Window: 16 in use, replace the oldest",
    "touch": "Window, every byte written",
    "threads": "Two receiving threads",
    "zero": "Zeroing: allocate, release",
}


@dataclass(frozen=True)
class Contender:
    """Python expressions and statements that take ``n`` bytes, and return their buffer ``b``."""

    take: str
    setup: str = "pass"
    give: str = "pass"
    needs: str = "bytepool"
    """The package that must be installed."""


CONTENDERS = {
    "bytepool": Contender(
        "pool.view(n)",
        "from bytepool import Pool; pool = Pool(1024, largest, 32)",
    ),
    "bytearray": Contender("memoryview(bytearray(n))"),
    "np.empty": Contender("memoryview(np.empty(n, np.uint8))", "import numpy as np", needs="numpy"),
    "pyarrow": Contender(
        "memoryview(pa.allocate_buffer(n))", "import pyarrow as pa", needs="pyarrow"
    ),
    # It has no size classes, so every buffer is as large as the largest message.
    "deque": Contender(
        "memoryview(free.pop() if free else bytearray(largest))[:n]",
        "from collections import deque; free = deque()",
        "free.append(b.obj)",
    ),
    "pure Python pool": Contender(
        "pool.take(n)",
        "from bytepool.bench.pure import PurePool; pool = PurePool()",
        "pool.give(b)",
    ),
}

# Each call of the pool, and memoryview(existing), the cheapest way to make any view.
CALLS = {
    "memoryview(existing)": ("existing = bytearray(n)", "memoryview(existing)"),
    "view": ("pass", "pool.view(n)"),
    "allocate, release": ("pass", "pool.allocate(n).release()"),
    "allocate, bytes, release": ("pass", "a = pool.allocate(n); a.bytes(); a.release()"),
    "with allocate, bytes": ("pass", "with pool.allocate(n) as a: a.bytes()"),
    "reused allocator": ("a = pool.allocator()", "a.allocate(n); a.release()"),
}


ZERO = ("never", "release", "allocate")
# The contender that the others are compared with, if it is not bytepool.
BASELINES = {"calls": "memoryview(existing)", "zero": "never"}


@dataclass(frozen=True)
class Case:
    """One contender in one workload. Each case runs in separate processes."""

    workload: str
    """A key of ``TITLES``."""
    load: str
    """The size of the buffers, as text."""
    contender: str
    allocator: str = ""
    """The system allocator: a key of ``allocators()``, or empty for the default."""

    @property
    def name(self) -> str:
        """The name of the case in the results."""
        return f"{self.workload}, {self.load}: {self.label}"

    @property
    def group(self) -> str:
        """The title of the table that shows the case."""
        return f"{TITLES[self.workload]}, {self.load}"

    @property
    def label(self) -> str:
        """The contender, and the system allocator if it is not the default."""
        return f"{self.contender}, {self.allocator}" if self.allocator else self.contender

    def prepare(self) -> tuple[str, str, dict[str, object]]:
        """Return the setup, the statement to measure, and the variables of both."""
        if self.workload == "calls":
            setup, statement = CALLS[self.contender]
            n = parse_size(self.load)
            return f"{CONTENDERS['bytepool'].setup}; {setup}", statement, {"n": n, "largest": n}
        if self.workload == "zero":
            n = parse_size(self.load)
            setup = f"from bytepool import Pool; pool = Pool(zero={self.contender!r})"
            return setup, CALLS["allocate, release"][1], {"n": n}
        contender = CONTENDERS[self.contender]
        if self.workload == "round trip":
            n = parse_size(self.load)
            statement = f"b = {contender.take}; {contender.give}; del b"
            return contender.setup, statement, {"n": n, "largest": n}
        least, most = WINDOWS[self.load]
        names = {
            "steps": steps(least, most),
            "live": [],
            "largest": most,
            "write": write,
        }
        setup = (
            f"{contender.setup}\n"
            f"for _ in range({LIVE}): i, n = next(steps); live.append({contender.take})"
        )
        statement = (
            f"i, n = next(steps); b = live[i]; live[i] = None; {contender.give}; del b; "
            f"live[i] = {contender.take}"
        )
        if self.workload == "touch":
            statement += "; write(live[i], n)"
        return setup, statement, names


def steps(least: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the next position in the window and its new size, without end.

    The sizes are spread evenly over the powers of two between ``least`` and ``most``.
    """
    choose = random.Random(1)
    sizes = [int(least * (most / least) ** choose.random()) for _ in range(64 * LIVE)]
    return cycle(list(zip(cycle(range(LIVE)), sizes, strict=False)))


def write(buffer: memoryview, n: int) -> None:
    """Write ``n`` bytes, as a received message does."""
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), 1, n)


def size_name(n: int) -> str:
    """Return the size as text, for example ``1 KiB`` for 1024."""
    return f"{n // MIB} MiB" if n >= MIB else f"{n // KIB} KiB"


def parse_size(name: str) -> int:
    """Return the number of bytes, for example 1024 for ``1 KiB``."""
    number, unit = name.split()
    return int(number) * {"KiB": KIB, "MiB": MIB}[unit]


def allocators() -> dict[str, dict[str, str]]:
    """Return the installed system allocators, with the environment that selects each one."""
    keep = str(1 << 30)
    found = {
        "glibc tuned": {"MALLOC_MMAP_THRESHOLD_": keep, "MALLOC_TRIM_THRESHOLD_": keep},
    }
    for name, library in preloads().items():
        found[name] = {"LD_PRELOAD": library}
    return found


def preloads() -> dict[str, str]:
    """Return the libraries of other allocators that are installed."""
    found = {name: ctypes.util.find_library(name) for name in ("jemalloc", "mimalloc")}
    return {name: library for name, library in found.items() if library}


def missing() -> list[str]:
    """Return the packages and allocators that are not installed, so are not compared."""
    packages = {contender.needs for contender in CONTENDERS.values()}
    absent = [name for name in sorted(packages) if importlib.util.find_spec(name) is None]
    return absent + [name for name in ("jemalloc", "mimalloc") if name not in allocators()]


def plan(*, quick: bool) -> list[Case]:
    """Return all cases in the order of the report, or the most important ones if ``quick``."""
    names = [name for name, it in CONTENDERS.items() if importlib.util.find_spec(it.needs)]
    fresh = [name for name in ("bytearray", "np.empty") if name in names]
    sizes = [size_name(n) for n in ROUND_TRIP_SIZES]
    cases = [Case("calls", size, call) for size in sizes for call in CALLS]
    cases += [Case("round trip", size, name) for size in sizes for name in names]
    for workload in ("window", "touch"):
        for load in WINDOWS:
            cases += [Case(workload, load, name) for name in names]
            cases += [Case(workload, load, name, other) for other in allocators() for name in fresh]
    cases += [Case("threads", "64 KiB", name) for name in ("bytepool", "deque")]
    cases += [Case("zero", size, policy) for size in sizes[:3] for policy in ZERO]
    if quick:
        few = [("calls", "64 KiB"), ("round trip", "1 MiB"), ("touch", "64 KiB-4 MiB")]
        cases = [case for case in cases if (case.workload, case.load) in few and not case.allocator]
    return cases
