"""What stands in the way of memory that somebody waits for, where Python has no GIL.

There an object that was let go of by another thread than the one that made it is freed when its
maker next runs Python code. So views that nobody has any more may still be out: for a moment, or
for as long as their maker sleeps in a system call, or waits itself.
"""

from __future__ import annotations

import gc
import time

_LONG = 1.0  # seconds

_collected = 0.0


def free_what_others_made(waited: float) -> None:
    """Have memory come home that only waits for a thread to run; ``waited``: for so many seconds.

    What this thread made comes home as soon as it runs any code, which is this. What others made
    does when the garbage is collected, which stops all threads: so only for who waits long, and
    seldom.
    """
    global _collected
    now = time.monotonic()
    if min(waited, now - _collected) >= _LONG:
        _collected = now
        gc.collect()
