"""The head of a response and its body leave in one write."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import Buffer

# How the head of a response begins. A body that begins like this is held back for no longer.
_HEAD = b"HTTP/1.1 "
# A longer body is written after the head, because copying it would cost more than a write.
_COPIED = 16 << 10


class Output:
    """A transport that writes the head of a response together with what follows it.

    uvicorn writes both, one after the other, and each write is a system call and a packet. A head
    waits for what the application sends in the same step of the event loop, and no longer.

    It has what uvicorn and this package use of a transport. (With ``__getattr__`` each attribute,
    its own ones too, would take CPython several times as long.)
    """

    __slots__ = ("_head", "_loop", "_transport", "abort", "get_extra_info", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self.abort = transport.abort
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing

    def write(self, data: Buffer) -> None:
        """Write the data, or keep it until the next write if it is the head of a response."""
        head, self._head = self._head, None
        if head is None:
            if type(data) is bytes and data.startswith(_HEAD):
                self._head = data
                self._loop.call_soon(self.flush)
                return
        elif type(data) is bytes and len(data) <= _COPIED:
            data = head + data
        else:
            self._transport.write(head)
        self._transport.write(data)  # type: ignore[arg-type]

    def flush(self) -> None:
        """Write the head that waits, if there is one and the connection is not lost."""
        head, self._head = self._head, None
        if head is not None and not self.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        """Close the transport after all data."""
        self.flush()
        self._transport.close()

    def take_transport(self) -> asyncio.Transport:
        """Return the transport itself, with nothing left to write here."""
        self.flush()
        return self._transport
