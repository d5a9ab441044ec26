"""Basic use of a pool: request a buffer, fill it, use it, release it."""

import io

import bytepool

pool = bytepool.Pool(max_size=1 << 20, max_buffers=8)


def checksum(file: io.BufferedIOBase, size: int) -> int:
    """Read up to ``size`` bytes into pooled memory, and return their sum."""
    with pool.allocate(size) as alloc:
        # No variable holds a view, so the buffer is returned when the block ends.
        n = file.readinto(alloc.bytes())
        return sum(alloc.bytes()[:n])  # bytes past n belong to older messages


# One allocator can be used for many messages.
alloc = pool.allocator()
for text in (b"first", b"second"):
    alloc.allocate(len(text))[:] = text
    print(bytes(alloc.bytes()))
    alloc.release()

# Like memoryview(bytearray(n)): no handle, and nothing to release.
view = pool.view(5)
view[:] = b"hello"
print(bytes(view))
del view

for _ in range(1000):
    checksum(io.BytesIO(bytes([1]) * 70_000), 70_000)
print(pool.stats())
