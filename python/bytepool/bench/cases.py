"""What is measured: statements, contenders that fill them in, and the allocators below those."""

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
LIVE = 16  # buffers that a window holds at a time
WINDOWS = {"1 MiB": (MIB, MIB), "64 KiB-4 MiB": (64 * KIB, 4 * MIB)}
LARGEST = 16 * MIB


TITLES = {
    "calls": "The pool's calls, and the least a view can cost",
    "round trip": "Round trip: take, give back",
    "window": "Window: 16 alive, the oldest replaced",
    "touch": "Window, every byte written",
    "threads": "Two threads that receive",
    "zero": "Zeroing of reused memory: allocate, release",
}


@dataclass(frozen=True)
class Contender:
    """Python statements: how to take ``n`` bytes, and to give their buffer ``b`` back."""

    take: str
    setup: str = "pass"
    give: str = "pass"
    needs: str = "bytepool"
    """The package it comes from."""


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
    # Without classes, so every buffer is as large as the largest message.
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

# The pool's calls one by one, beside the least that any view can cost.
CALLS = {
    "memoryview(existing)": ("existing = bytearray(n)", "memoryview(existing)"),
    "view": ("pass", "pool.view(n)"),
    "allocate, release": ("pass", "pool.allocate(n).release()"),
    "allocate, bytes, release": ("pass", "a = pool.allocate(n); a.bytes(); a.release()"),
    "with allocate, bytes": ("pass", "with pool.allocate(n) as a: a.bytes()"),
    "reused allocator": ("a = pool.allocator()", "a.allocate(n); a.release()"),
}


ZERO = ("never", "release", "allocate")
# What the others are compared with, where it is not bytepool.
BASELINES = {"calls": "memoryview(existing)", "zero": "never"}


@dataclass(frozen=True)
class Case:
    """One thing to measure, in processes of its own."""

    workload: str
    """A key of ``TITLES``."""
    load: str
    """The size of the buffers."""
    contender: str
    allocator: str = ""
    """What stands below instead of the system's allocator as it is; a key of ``allocators()``."""

    @property
    def name(self) -> str:
        """Its name in the results."""
        return f"{self.workload}, {self.load}: {self.label}"

    @property
    def group(self) -> str:
        """The title under which it stands beside others."""
        return f"{TITLES[self.workload]}, {self.load}"

    @property
    def label(self) -> str:
        """The contender, with the allocator below it if that is another one."""
        return f"{self.contender}, {self.allocator}" if self.allocator else self.contender

    def prepare(self) -> tuple[str, str, dict[str, object]]:
        """The setup, the statement to time, and the names both find."""
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
    """For ever: the place in the window that comes next, and the size that goes there.

    The sizes are spread evenly over the powers of two between ``least`` and ``most``.
    """
    choose = random.Random(1)
    sizes = [int(least * (most / least) ** choose.random()) for _ in range(64 * LIVE)]
    return cycle(list(zip(cycle(range(LIVE)), sizes, strict=False)))


def write(buffer: memoryview, n: int) -> None:
    """Writes all of it, as a message that arrives would."""
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(buffer)), 1, n)


def size_name(n: int) -> str:
    """As in ``1 KiB`` for 1024."""
    return f"{n // MIB} MiB" if n >= MIB else f"{n // KIB} KiB"


def parse_size(name: str) -> int:
    """As in ``1 KiB``, which is 1024."""
    number, unit = name.split()
    return int(number) * {"KiB": KIB, "MiB": MIB}[unit]


def allocators() -> dict[str, dict[str, str]]:
    """Other allocators for the whole process: the environment that chooses each one installed."""
    keep = str(1 << 30)
    found = {
        "glibc tuned": {"MALLOC_MMAP_THRESHOLD_": keep, "MALLOC_TRIM_THRESHOLD_": keep},
    }
    for name in ("jemalloc", "mimalloc"):
        library = ctypes.util.find_library(name)
        if library:
            found[name] = {"LD_PRELOAD": library}
    return found


def missing() -> list[str]:
    """What would be compared as well, if it were installed."""
    packages = {contender.needs for contender in CONTENDERS.values()}
    absent = [name for name in sorted(packages) if importlib.util.find_spec(name) is None]
    return absent + [name for name in ("jemalloc", "mimalloc") if name not in allocators()]


def plan(*, quick: bool) -> list[Case]:
    """All cases, in the order of the report; with ``quick`` those that tell most."""
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
