"""Measure what a page fault, a mapping and the copy of a byte cost on this machine."""

from __future__ import annotations

import ctypes
import mmap
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096
SIZE = 8 << 20  # bytes to touch and to copy
MAPPED = 256 << 10  # bytes to map; the price is the same for all sizes
MAPPINGS = 64
ROUNDS = 9


@dataclass(frozen=True)
class Machine:
    """The prices of memory. All are medians."""

    fault_seconds: float
    """CPU seconds of one page fault: entering the kernel, zeroing the page, and freeing it."""
    map_seconds: float
    """CPU seconds to map a block and to unmap it, without its pages."""
    byte_seconds: float
    """CPU seconds to copy one byte of a large block."""
    huge_pages: bool
    """Whether one fault may bring 2 MiB, so that counts of faults say less."""


def measure() -> Machine:
    """Measure this machine, in about a tenth of a second."""
    faults, maps, copies = [], [], []
    target = bytearray(SIZE)
    into = (ctypes.c_char * SIZE).from_buffer(target)
    for _ in range(ROUNDS):
        memory = mmap.mmap(-1, SIZE)
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        block = (ctypes.c_char * SIZE).from_buffer(memory)
        fresh = _time(lambda at=block: ctypes.memset(at, 1, SIZE))
        again = _time(lambda at=block: ctypes.memset(at, 1, SIZE))
        copies.append(_time(lambda at=block: ctypes.memmove(into, at, SIZE)))
        del block
        faults.append(fresh - again + _time(memory.close))
        maps.append(_time(_map))
    return Machine(
        max(statistics.median(faults), 0.0) / (SIZE // PAGE),
        statistics.median(maps) / MAPPINGS,
        statistics.median(copies) / SIZE,
        _huge_pages(),
    )


def _map() -> None:
    for _ in range(MAPPINGS):
        mmap.mmap(-1, MAPPED).close()


def _time(call: object) -> float:
    begin = time.thread_time()
    call()  # type: ignore[operator]
    return time.thread_time() - begin


def _huge_pages() -> bool:
    try:
        return "[never]" not in Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return False
