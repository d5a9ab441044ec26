"""How large the ``bytes`` are that an application gets."""

from __future__ import annotations

import sys

# An application that streams has one of these chunks while the next one is filled.
CHUNK = 448 << 10
# The size for an application that keeps what it gets, as ``request.body()`` does.
KEPT_CHUNK = 4 << 20


class ChunkSize:
    """The size of the next chunk of one body, in bytes.

    The first chunk is kept here until the application wants the third. Then it shows whether the
    application keeps what it gets.
    """

    # What each object begins with. It takes time to set attributes.
    _size = CHUNK
    _first: bytes | None = None
    _delivered = 0

    def next(self) -> int:
        """Return the size of the chunk that is to be filled now."""
        if self._first is not None and self._delivered > 1:
            if sys.getrefcount(self._first) > 2:  # one for the attribute, and one for the argument
                self._size = KEPT_CHUNK
            self._first = None
        return self._size

    def note(self, chunk: bytes) -> None:
        """Note that the application gets this chunk, and that more are to come."""
        self._delivered += 1
        if self._delivered == 1:
            self._first = chunk

    def end(self) -> None:
        """Let go of the first chunk."""
        self._first = None
