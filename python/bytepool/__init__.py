"""A pool of reusable byte buffers for servers that handle large messages.

>>> import bytepool
>>> pool = bytepool.Pool(max_size=1 << 20)
>>> with pool.allocate(100_000) as alloc:
...     print(len(alloc.bytes()))
100000

``Pool`` lends memory, ``Allocator`` is the handle on it, ``pool.view(n)`` lends without a handle,
and ``pool.stats()`` counts what happened. Memory is returned to the pool when nothing refers to it
any more, so a release too early, twice, or never cannot corrupt memory. ``default_pool()`` is the
pool that is used wherever you give none.

``bytepool.streams`` has asyncio's streams with fewer copies, and ``bytepool.blocking`` has sockets
and files for threads. All guides: https://bytepool.readthedocs.io/en/latest/
"""

from bytepool import _fork as _fork
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
    default_pool,
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
    "default_pool",
]
