"""Receive video frames from a socket as NumPy arrays, without a copy.

An array that is made from a pooled view keeps the buffer in use. You can keep it, pass it on or
drop it at any time. The buffer is returned to the pool when its last array is gone.
"""

from __future__ import annotations

import asyncio
import struct

import numpy as np

from bytepool import Pool, streams

HEADER = struct.Struct("!II")  # height, width
pool = Pool(max_size=8 << 20, max_buffers=4)


async def read_frame(
    reader: streams.StreamReader,
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Receive one frame of RGB pixels, straight into pooled memory."""
    height, width = HEADER.unpack(await reader.readexactly(HEADER.size))
    view = await reader.readview(height * width * 3, max_size=pool.max_size)
    return np.frombuffer(view, np.uint8).reshape(height, width, 3)


async def watch(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
    """Find the brightest frame, and print its brightness and its corner."""
    best, corner = -1.0, None
    try:
        while True:
            frame = await read_frame(reader)
            brightness = float(frame.mean())
            if brightness > best:
                best, corner = brightness, frame[:2, :2]  # keeps the whole frame in use
    except asyncio.IncompleteReadError:
        assert corner is not None
        print(f"brightest: {best:.1f}, its corner: {corner[0, 0].tolist()}")
    finally:
        writer.close()


async def camera(address: tuple[str, int]) -> None:
    """Send frames of different brightness."""
    _, writer = await streams.open_connection(*address, pool=pool)
    for level in (10, 90, 200, 250, 120, 30):
        writer.write(HEADER.pack(720, 1280))
        writer.write(np.full((720, 1280, 3), level, np.uint8).data.cast("B"))
        await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    """Send frames from a camera to a watcher."""
    watched = asyncio.Event()

    async def watch_once(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
        await watch(reader, writer)
        watched.set()

    server = await streams.start_server(watch_once, "127.0.0.1", 0, pool=pool)
    async with server:
        await camera(server.sockets[0].getsockname())
        await watched.wait()
    print(f"in use: {pool.stats().outstanding}, hit rate: {pool.stats().hit_rate:.0%}")


asyncio.run(main())
