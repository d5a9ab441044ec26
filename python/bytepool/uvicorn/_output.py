"""The head of a response and its body leave in one write."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

# How the head of a response begins. If a body begins like this, it waits as a head does.
_HEAD = b"HTTP/1.1 "
# A longer body is written after the head, because copying it would cost more than a write.
_COPIED = 16 << 10


class Output:
    """A transport that writes the head of a response together with what follows it.

    uvicorn writes both, one after the other, and each write is a system call and a packet. A head
    waits until the application sends its body, the response is complete, the client ends its side,
    or the next step of the event loop begins.
    """

    __slots__ = ("_head", "_is_shared", "_loop", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head: bytes | None = None
        self._is_shared = False
        self.is_closing = transport.is_closing

    def write(self, data: Buffer) -> None:
        """Write the data, or keep it until the next write if it is the head of a response."""
        head, self._head = self._head, None
        if head is None:
            if type(data) is bytes and data.startswith(_HEAD) and not self._is_shared:
                self._head = data
                self._loop.call_soon(self.flush)
                return
        elif type(data) is bytes and len(data) <= _COPIED:
            data = head + data
        else:
            self._transport.write(head)
        self._transport.write(data)  # type: ignore[arg-type]

    def flush(self) -> None:
        """Write the head that waits, unless there is none or the connection is closed."""
        head, self._head = self._head, None
        if head is not None and not self.is_closing():
            self._transport.write(head)

    def close(self) -> None:
        """Close the transport after all data."""
        self.flush()
        self._transport.close()

    def take_transport(self) -> asyncio.Transport:
        """Return the transport itself, and write all at once from now on: others write to it."""
        self._is_shared = True
        self.flush()
        return self._transport


def _delegate(name: str) -> property:
    return property(lambda output: getattr(output._transport, name))


# ``__getattr__`` would do the same, but would slow down every attribute of ``Output``.
for _name in dir(asyncio.Transport):
    if not hasattr(Output, _name):
        setattr(Output, _name, _delegate(_name))
