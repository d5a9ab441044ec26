"""Check whether a pool causes a bug: use the null pool, and change nothing else.

The null pool has the same rules and errors, but it allocates fresh memory for each request. If the
bug remains, the pool is not its cause. ``BYTEPOOL=null python your_server.py`` replaces all pools
of a program without a change of the code.
"""

import bytepool


def reverse(pool: bytepool.Pool, message: bytes) -> bytes:
    """Reverse a message in pooled memory."""
    with pool.allocate(len(message)) as alloc:
        alloc.bytes()[:] = message[::-1]
        return bytes(alloc.bytes())


def release_twice(pool: bytepool.Pool) -> str:
    """Return the error of a bug that both kinds of pool detect."""
    alloc = pool.allocate(10)
    alloc.release()
    try:
        alloc.release()
    except bytepool.BytesAlreadyReturnedError as error:
        return str(error)
    return "not detected"


pools = [bytepool.Pool(), bytepool.Pool.null()]
for pool in pools:
    print(f"{pool!r}: {reverse(pool, b'desserts')!r}")
    print(f"  {release_twice(pool)}")
