"""The plain use: take bytes, fill them, use them, give them back."""

import io

import bytepool

pool = bytepool.Pool(max_size=1 << 20, max_buffers=8)


def checksum(file: io.BufferedIOBase, size: int) -> int:
    """Read up to ``size`` bytes into pooled memory, without a copy, and add them up."""
    with pool.allocate(size) as alloc:
        # No variable holds a view, so the memory is home when the block ends.
        n = file.readinto(alloc.bytes())
        return sum(alloc.bytes()[:n])  # beyond n stand older bytes


# A handle of one's own serves one message after the other.
alloc = pool.allocator()
for text in (b"first", b"second"):
    alloc.allocate(len(text))[:] = text
    print(bytes(alloc.bytes()))
    alloc.release()

# The drop-in for bytearray(n): no handle, nothing to release.
view = pool.view(5)
view[:] = b"hello"
print(bytes(view))
del view

for _ in range(1000):
    checksum(io.BytesIO(bytes([1]) * 70_000), 70_000)
print(pool.stats())
