"""The pool that a careful Python programmer would write: one of the contenders."""

from __future__ import annotations

import threading
from collections import defaultdict


class PurePool:
    """Size classes that are powers of two, a lock, and a check against returning twice.

    What it cannot do: know whether somebody still has a view of what comes back.
    """

    def __init__(self, keep: int = 32) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._free: defaultdict[int, list[bytearray]] = defaultdict(list)
        self._out: dict[int, bytearray] = {}

    def take(self, n: int) -> memoryview:
        """A view of ``n`` bytes."""
        size = 1 << max(n - 1, 0).bit_length()
        with self._lock:
            free = self._free[size]
            buffer = free.pop() if free else None
        if buffer is None:
            buffer = bytearray(size)
        with self._lock:
            self._out[id(buffer)] = buffer
        return memoryview(buffer)[:n]

    def give(self, view: memoryview) -> None:
        """Back into the pool, once; raises ValueError for what is not out."""
        buffer = view.obj
        with self._lock:
            if not isinstance(buffer, bytearray) or self._out.pop(id(buffer), None) is None:
                raise ValueError("this buffer is not out")
            free = self._free[len(buffer)]
            if len(free) < self._keep:
                free.append(buffer)
