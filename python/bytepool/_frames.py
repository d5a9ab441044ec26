"""Where the length field of a frame is, and what it counts."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from typing import SupportsIndex

MAX_SIZE = 16 << 20  # bytes of a message, unless the caller says otherwise


class FrameLayout:
    """A frame is a header, a length field and a body. See ``bytepool.blocking.frames``."""

    def __init__(
        self,
        length_size: SupportsIndex = 4,
        byteorder: Literal["big", "little"] = "big",
        offset: SupportsIndex = 0,
        adjustment: SupportsIndex = 0,
        strip: SupportsIndex | None = None,
        max_size: SupportsIndex = MAX_SIZE,
    ) -> None:
        self.length_size = operator.index(length_size)
        if not 1 <= self.length_size <= 8:
            raise ValueError(f"length_size must be 1 to 8 bytes, not {self.length_size}")
        if byteorder not in ("big", "little"):
            raise ValueError(f"byteorder must be 'big' or 'little', not {byteorder!r}")
        self.byteorder = byteorder
        self.offset = _not_negative("offset", offset)
        self.adjustment = operator.index(adjustment)
        self.header = self.offset + self.length_size  # in bytes
        self.strip = self.header if strip is None else _not_negative("strip", strip)
        self.max_size = _not_negative("max_size", max_size)

    def message_size(self, header: memoryview) -> int:
        """Return the size of the message that follows the first ``self.strip`` bytes of a frame.

        Raises ValueError if it is negative or above ``max_size``.
        """
        length = int.from_bytes(header[self.offset : self.header], self.byteorder)
        body = length + self.adjustment
        size = self.header + body - self.strip
        if body < 0 or size < 0:
            raise ValueError(
                f"length field of {length} with adjustment {self.adjustment} and strip "
                f"{self.strip} gives a negative size"
            )
        if size > self.max_size:
            raise ValueError(f"a message of {size} bytes is above max_size ({self.max_size} bytes)")
        return size

    def length_field(self, size: int) -> bytes:
        """Return the length field of a frame whose body has ``size`` bytes.

        Raises ValueError if the field cannot hold its value.
        """
        length = size - self.adjustment
        if not 0 <= length < 1 << 8 * self.length_size:
            raise ValueError(
                f"length of {length} does not fit a length field of {self.length_size} bytes"
            )
        return length.to_bytes(self.length_size, self.byteorder)


def _not_negative(name: str, value: SupportsIndex) -> int:
    number = operator.index(value)
    if number < 0:
        raise ValueError(f"{name} must be 0 or more, not {number}")
    return number
