"""Layouts of length-prefixed messages, streams of them, and a plain parser to compare with."""

from __future__ import annotations

import asyncio
import random
from typing import Any, Literal, NamedTuple

from bytepool import streams


class Layout(NamedTuple):
    """The parameters of ``StreamReader.frames``."""

    length_size: int = 4
    byteorder: Literal["big", "little"] = "big"
    offset: int = 0
    adjustment: int = 0
    strip: int | None = None
    max_size: int = 60_000

    def total(self, buffer: bytearray) -> int:
        """Return the size of the frame that the buffer starts with, or raise ValueError."""
        header = self.offset + self.length_size
        length = int.from_bytes(buffer[self.offset : header], self.byteorder)
        total = header + length + self.adjustment
        size = total - (header if self.strip is None else self.strip)
        if total < header or not 0 <= size <= self.max_size:
            raise ValueError
        return total


LAYOUTS = (
    Layout(),
    Layout(1),
    Layout(2, "little", max_size=700),
    Layout(3, "big", offset=2, strip=0),
    Layout(8, "little", offset=1, adjustment=-9, strip=3),
    Layout(2, "big", adjustment=5, strip=2),
    Layout(4, "little", strip=9),
)
LARGE_LAYOUTS = (
    Layout(max_size=600_000),
    Layout(3, "little", offset=5, adjustment=-8, strip=0, max_size=400_000),
)


class _Parts(list[bytes]):
    """Takes what is written."""

    def write(self, data: Any) -> None:
        self.append(bytes(data))


def _stream(layout: Layout, size: int, largest: int) -> bytes:
    """Return ``size`` bytes or more of frames, a few of which are too large or too small."""
    numbers = random.Random(repr(layout))
    parts = _Parts()
    writer: Any = parts
    while sum(map(len, parts)) < size:
        payload = numbers.randbytes(int(largest ** numbers.random()) - 1)
        if layout.length_size == 1:
            payload = payload[:200]
        streams.write_frame(
            writer,
            payload + bytes(max(layout.adjustment, 0)),
            length_size=layout.length_size,
            byteorder=layout.byteorder,
            header=numbers.randbytes(layout.offset),
            adjustment=layout.adjustment,
        )
    return b"".join(parts)


SMALL = {layout: _stream(layout, 1 << 15, 3000) for layout in LAYOUTS}
LARGE = {layout: _stream(layout, 4 << 20, 500_000) for layout in LARGE_LAYOUTS}


async def read_frame(reader: Any, layout: Layout) -> bytes:
    """Do what ``frames`` does with asyncio's reader."""
    if reader._exception is not None:
        raise reader._exception
    buffer: bytearray = reader._buffer
    wanted = header = layout.offset + layout.length_size
    while True:
        if len(buffer) >= header:
            wanted = layout.total(buffer)
            if len(buffer) >= wanted:
                frame = bytes(buffer[:wanted])
                del buffer[:wanted]
                reader._maybe_resume_transport()
                return frame[header if layout.strip is None else layout.strip :]
        if reader._eof:
            if not buffer:
                raise StopAsyncIteration
            partial = bytes(buffer)
            buffer.clear()
            raise asyncio.IncompleteReadError(partial, wanted)
        await reader._wait_for_data("frames")
