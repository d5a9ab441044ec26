"""A pool of reusable byte buffers for servers that handle large messages.

>>> import bytepool
>>> pool = bytepool.Pool(max_size=1 << 20)
>>> with pool.allocate(100_000) as alloc:
...     print(len(alloc.bytes()))
100000

``Pool`` lends memory, ``Allocator`` is the handle on it, ``pool.view(n)`` lends without a handle,
and ``pool.stats()`` tells what happened. Memory goes back to the pool when nothing refers to it any
more, so giving it back too soon, twice, or never corrupts nothing.
"""

from bytepool import decay
from bytepool._bytepool import (
    Allocator,
    BytesAlreadyAllocatedError,
    BytesAlreadyReturnedError,
    BytesOverwrittenError,
    MisuseError,
    Pool,
    PoolClosedError,
    PoolExhaustedError,
    __version__,
)
from bytepool.stats import BucketStats, Stats

__all__ = [
    "Allocator",
    "BucketStats",
    "BytesAlreadyAllocatedError",
    "BytesAlreadyReturnedError",
    "BytesOverwrittenError",
    "MisuseError",
    "Pool",
    "PoolClosedError",
    "PoolExhaustedError",
    "Stats",
    "__version__",
    "decay",
]
