"""A contender: the pool that a careful programmer would write in pure Python."""

from __future__ import annotations

import threading
from collections import defaultdict


class PurePool:
    """A pool with a lock, size classes that are powers of two, and a check for a second return.

    It does not detect that a view of a returned buffer still exists.
    """

    def __init__(self, keep: int = 32) -> None:
        self._keep = keep
        self._lock = threading.Lock()
        self._free: defaultdict[int, list[bytearray]] = defaultdict(list)
        self._in_use: dict[int, bytearray] = {}

    def take(self, n: int) -> memoryview:
        """Return a view of ``n`` bytes."""
        size = 1 << max(n - 1, 0).bit_length()
        with self._lock:
            free = self._free[size]
            buffer = free.pop() if free else None
        if buffer is None:
            buffer = bytearray(size)
        with self._lock:
            self._in_use[id(buffer)] = buffer
        return memoryview(buffer)[:n]

    def give(self, view: memoryview) -> None:
        """Return a buffer to the pool. Raises ValueError if the buffer is not in use."""
        buffer = view.obj
        with self._lock:
            if not isinstance(buffer, bytearray) or self._in_use.pop(id(buffer), None) is None:
                raise ValueError("this buffer is not in use")
            free = self._free[len(buffer)]
            if len(free) < self._keep:
                free.append(buffer)
