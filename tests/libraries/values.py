"""What the servers send and the clients compare."""

from __future__ import annotations

import functools
import random

SIZES = (64 << 10, 10_000_000)  # bytes


@functools.cache
def value(size: int) -> bytes:
    """Return the same bytes of no pattern in every process."""
    return random.Random(size).randbytes(size)
