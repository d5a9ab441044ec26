"""Measure what a page fault and the copy of a byte cost on this machine."""

from __future__ import annotations

import ctypes
import mmap
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
SIZE = 8 << 20  # bytes to touch and to copy
ROUNDS = 9


@dataclass(frozen=True)
class Machine:
    """The prices of memory. Both are medians."""

    fault_seconds: float
    """CPU seconds of one page fault: entering the kernel, and zeroing the page."""
    byte_seconds: float
    """CPU seconds to copy one byte of a large block."""
    huge_pages: bool
    """Whether one fault may bring 2 MiB, so that counts of faults say less."""


def measure() -> Machine:
    """Measure this machine, in about a tenth of a second."""
    fresh, again, copies = [], [], []
    target = bytearray(SIZE)
    for _ in range(ROUNDS):
        with mmap.mmap(-1, SIZE) as memory:
            memory.madvise(mmap.MADV_NOHUGEPAGE)
            block = (ctypes.c_char * SIZE).from_buffer(memory)
            fresh.append(_time(lambda at=block: ctypes.memset(at, 1, SIZE)))
            again.append(_time(lambda at=block: ctypes.memset(at, 1, SIZE)))
            into = (ctypes.c_char * SIZE).from_buffer(target)
            copies.append(_time(lambda at=block, to=into: ctypes.memmove(to, at, SIZE)))
            del block, into
    faults = max(statistics.median(fresh) - statistics.median(again), 0.0)
    return Machine(faults / (SIZE // PAGE), statistics.median(copies) / SIZE, _huge_pages())


def _time(call: object) -> float:
    begin = time.thread_time()
    call()  # type: ignore[operator]
    return time.thread_time() - begin


def _huge_pages() -> bool:
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
