"""The writer that matches ``StreamReader.frames()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer

# From this size on, the header is sent on its own sooner than the payload is copied behind it.
_LARGE = 16 << 10


def write_frame(
    writer: asyncio.StreamWriter,
    payload: Buffer,
    *,
    length_size: int = 4,
    byteorder: Literal["big", "little"] = "big",
    header: Buffer = b"",
    adjustment: int = 0,
) -> None:
    """Write ``payload`` behind its length, as ``StreamReader.frames()`` reads it.

    ``header`` stands before the length field: its size is the ``offset`` of ``frames()``, whose
    other parameters are the same. Raises ValueError, before anything is written, if the length is
    negative or does not fit into ``length_size`` bytes. Call ``await writer.drain()`` regularly.
    """
    view = memoryview(payload).cast("B")
    length = view.nbytes - adjustment
    try:
        head = bytes(header) + length.to_bytes(length_size, byteorder)
    except OverflowError:
        raise ValueError(
            f"the length {length} does not fit into {length_size} bytes"
            if length >= 0
            else f"a payload of {view.nbytes} bytes is shorter than adjustment ({adjustment})"
        ) from None
    if view.nbytes < _LARGE:
        writer.write(head + view)
    else:
        writer.write(head)
        writer.write(view)
