"""A file object over a memoryview, which reads without a copy of the whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class ViewFile(io.BufferedIOBase):
    """Reads ``view``, and lets go of it when it is closed. It is for one thread at a time."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._place = 0

    def getbuffer(self) -> memoryview:
        """Return the memoryview, as io.BytesIO does."""
        if self.closed:
            raise ValueError("the file is closed")
        return self._view

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it has positions."""
        return True

    def tell(self) -> int:
        """Return the position."""
        self.getbuffer()
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        size = len(self.getbuffer())
        place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: size}[whence]
        if place < 0:
            raise ValueError(f"negative position {place}")
        self._place = place
        return place

    def read(self, size: int | None = -1) -> bytes:
        """Return a copy of the next bytes; of all that are left if ``size`` is negative or None."""
        rest = self.getbuffer()[self._place :]
        data = bytes(rest if size is None or size < 0 else rest[:size])
        self._place += len(data)
        return data

    def read1(self, size: int = -1) -> bytes:
        """Return what ``read`` does."""
        return self.read(size)

    def peek(self, size: int = 0) -> bytes:
        """Return the next bytes, in which ``readline`` looks for the end of the line."""
        return bytes(self.getbuffer()[self._place :][: max(size, io.DEFAULT_BUFFER_SIZE)])

    def readinto(self, buffer: Buffer) -> int:
        """Copy the next bytes into ``buffer``, and return how many these are."""
        target = memoryview(buffer).cast("B")
        rest = self.getbuffer()[self._place :][: len(target)]
        target[: len(rest)] = rest
        self._place += len(rest)
        return len(rest)

    def close(self) -> None:
        """Close it. Its own reference to the view is gone."""
        self._view = memoryview(b"")
        super().close()
