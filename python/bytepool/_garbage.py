"""Garbage collection on behalf of requests that a budget refuses.

A view can stay in use although no code can reach it any more. In a reference cycle it stays until
the garbage collector runs. In a Python without a GIL, an object that is dropped by another thread
than its creator is freed when its creator next runs Python code, which may be much later.
"""

from __future__ import annotations

import gc
import time

# How long to wait after a collection, in multiples of its duration: so collections take at most
# 5 % of the time.
_PAUSE = 20

_duration = _end = 0.0  # of the last collection, in seconds


def collect_garbage(min_pause: float) -> bool:
    """Collect garbage, and return whether this happened.

    Nothing happens if the last collection ended less than ``min_pause`` seconds ago, or 20 times
    its duration.
    """
    global _duration, _end
    begin = time.monotonic()
    if begin - _end < max(_PAUSE * _duration, min_pause):
        return False
    gc.collect()
    _end = time.monotonic()
    _duration = _end - begin
    return True
