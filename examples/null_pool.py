"""Is the pool behind a bug? Swap in the null pool, and change nothing else.

It obeys the same rules and raises the same errors, but every request is plain allocation. If the
bug stays, it is not the pool's. ``BYTEPOOL=null python your_server.py`` does the same from outside.
"""

import bytepool


def reverse(pool: bytepool.Pool, message: bytes) -> bytes:
    """Some work that needs memory."""
    with pool.allocate(len(message)) as alloc:
        alloc.bytes()[:] = message[::-1]
        return bytes(alloc.bytes())


def forget_that_it_was_released(pool: bytepool.Pool) -> str:
    """A bug, which both kinds of pool report alike."""
    alloc = pool.allocate(10)
    alloc.release()
    try:
        alloc.release()
    except bytepool.BytesAlreadyReturnedError as error:
        return str(error)
    return "not noticed"


pools = [bytepool.Pool(), bytepool.Pool.null()]
for pool in pools:
    print(f"{pool!r}: {reverse(pool, b'desserts')!r}")
    print(f"  {forget_that_it_was_released(pool)}")
