"""Garbage collection on behalf of waiters, in a Python without a GIL.

There, an object that is dropped by another thread than its creator is freed when its creator next
runs Python code. So buffers can stay in use although nothing refers to their views any more: for a
moment, or for as long as the creator sleeps in a system call, or waits for memory itself.
"""

from __future__ import annotations

import gc
import time

_PERIOD = 1.0  # seconds between two collections, and before the first

_last_collection = 0.0


def collect_garbage(waited: float) -> None:
    """Free objects that their threads have not freed yet; ``waited`` is in seconds.

    The caller's own objects are freed as soon as it runs Python code, such as this. Those of other
    threads are freed by a garbage collection, which stops all threads. It runs for long waits only,
    and at most once a second.
    """
    global _last_collection
    now = time.monotonic()
    if min(waited, now - _last_collection) >= _PERIOD:
        _last_collection = now
        gc.collect()
