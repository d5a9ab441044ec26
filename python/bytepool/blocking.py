"""Sockets and files, for threads: whole messages and whole files in pooled memory.

``pool`` is ``bytepool.default_pool()`` unless you give one. ``budget_timeout`` is how many seconds
to wait for the pool's budget (``max_bytes``), as ``timeout`` of ``Pool.allocate``: 0.0 does not
wait, None waits without limit. How long to wait for the peer is the socket's own timeout.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import bytepool
from bytepool._frames import MAX_SIZE, FrameLayout

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self, SupportsIndex

    from typing_extensions import Buffer

__all__ = ["frames", "read_file", "recv_exactly", "send_frame"]

# The first buffer for a file that does not tell its size (pipes, /proc), in bytes.
_UNKNOWN_SIZE = 64 << 10
# How much a file is asked for once it is as long as it said. Some special files refuse small reads.
_PROBE = 4 << 10
# The size of the buffer through which small messages are received, in bytes.
_AHEAD = 16 << 10


def recv_exactly(
    sock: socket.socket,
    n: int,
    pool: bytepool.Pool | None = None,
    *,
    budget_timeout: float | None = 0.0,
) -> memoryview:
    """Receive exactly ``n`` bytes, and return a memoryview of pooled memory that holds them.

    The socket's timeout bounds the whole message, not each piece of it.

    Raises EOFError if the peer closes before ``n`` bytes came, TimeoutError if they do not come in
    time, ValueError for a non-blocking socket, and what ``Pool.view`` raises. After an error the
    bytes that came are lost, and so is the place in the stream: close the socket. No other thread
    may use the socket meanwhile, because this shortens the socket's own timeout.
    """
    receiver = _Receiver(sock, "recv_exactly()")
    view = _pool(pool).view(n, timeout=budget_timeout)
    with receiver:
        try:
            receiver.fill(view, 0, len(view))
        except BaseException:
            del view  # a traceback keeps this frame alive
            raise
    return view


def frames(
    sock: socket.socket,
    pool: bytepool.Pool | None = None,
    *,
    length_size: SupportsIndex = 4,
    byteorder: Literal["big", "little"] = "big",
    offset: SupportsIndex = 0,
    adjustment: SupportsIndex = 0,
    strip: SupportsIndex | None = None,
    max_size: SupportsIndex = MAX_SIZE,
    budget_timeout: float | None = 0.0,
) -> Iterator[memoryview]:
    """Receive length-prefixed messages, each as a memoryview of pooled memory.

    ``for message in frames(sock):`` ends when the peer closes between two frames. Parameters
    and defaults are those of ``frames`` in ``bytepool.streams``.

    Args:
        length_size: bytes of the length field, 1 to 8. The field is unsigned.
        byteorder: "big" or "little".
        offset: bytes of a frame before the length field.
        adjustment: added to the value of the length field. The sum is the number of bytes that
            follow the field. It is negative if the field also counts the bytes before its end.
        strip: bytes to drop from the front of each frame. None drops everything up to the end of
            the length field, so that a message is the body alone; 0 keeps the whole frame.
        max_size: bytes of the largest message to accept.

    This reads ahead: do not receive from the socket yourself afterwards. The socket's timeout
    bounds each message. After an error inside a message's body the iterator has ended: close the
    socket. After another error, such as a timeout between two frames, ``next()`` can go on.

    Raises ValueError for a message above ``max_size``, before it allocates, and for a length field
    that leaves less than no bytes. Raises EOFError if the peer closes inside a frame, and what
    ``recv_exactly`` raises.
    """
    layout = FrameLayout(length_size, byteorder, offset, adjustment, strip, max_size)
    _Receiver(sock, "frames()")  # raises for a non-blocking socket
    return _Frames(sock, _pool(pool), layout, budget_timeout)


def send_frame(
    sock: socket.socket,
    message: Buffer,
    *,
    length_size: SupportsIndex = 4,
    byteorder: Literal["big", "little"] = "big",
    adjustment: SupportsIndex = 0,
    header: bytes = b"",
) -> None:
    """Send ``header``, a length field and ``message``, so that ``frames`` can receive them.

    The value of the length field is the size of ``message`` minus ``adjustment``. The other
    parameters are those of ``frames``; its ``offset`` is ``len(header)``.

    Raises ValueError if the value does not fit the field, and what ``socket.sendall`` raises.
    """
    layout = FrameLayout(length_size, byteorder, len(header), adjustment)
    with memoryview(message) as given, given.cast("B") as view:
        head = header + layout.length_field(len(view))
        # One segment for a small message: a header alone can wait for the peer's acknowledgement.
        sock.sendall(head + view[:_AHEAD])
        if len(view) > _AHEAD:
            sock.sendall(view[_AHEAD:])


def read_file(
    path: str | os.PathLike[str],
    pool: bytepool.Pool | None = None,
    *,
    budget_timeout: float | None = 0.0,
) -> memoryview:
    """Read a whole file, and return a memoryview of pooled memory that holds it.

    If the file grows or shrinks meanwhile, this reads up to its new end. Files that do not tell
    their size (pipes, /proc) are read into buffers that double; only the first one can wait for
    the budget.

    Raises what ``open`` and ``read`` raise, and what ``Pool.view`` raises.
    """
    pool = _pool(pool)
    with Path(path).open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        size = status.st_size if stat.S_ISREG(status.st_mode) else 0
        view = pool.view(size or _UNKNOWN_SIZE, timeout=budget_timeout)
        filled = 0
        try:
            while True:
                more = b""
                if filled < len(view):
                    received = file.readinto(view[filled:])
                    if not received:
                        return view[:filled]
                    filled += received
                elif size and not (more := file.read(_PROBE)):
                    return view
                else:
                    larger = pool.view(max(2 * filled, filled + len(more)))
                    larger[:filled] = view
                    larger[filled : filled + len(more)] = more
                    # From now on the size is unknown.
                    view, filled, size = larger, filled + len(more), 0
                    del larger
        except BaseException:
            del view  # a traceback keeps this frame alive
            raise


def _pool(pool: bytepool.Pool | None) -> bytepool.Pool:
    return bytepool.default_pool() if pool is None else pool


class _Receiver:
    """Receives from a socket whose timeout bounds all pieces of a message together."""

    def __init__(self, sock: socket.socket, caller: str) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout()
        if self._timeout == 0:
            raise ValueError(f"{caller} needs a blocking socket, or one with a timeout")
        self._deadline: float | None = None
        self._received = False

    def __enter__(self) -> Self:
        if self._timeout is not None:
            self._deadline = time.monotonic() + self._timeout
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        if self._timeout is not None:
            with contextlib.suppress(OSError):  # the socket was closed meanwhile
                self._sock.settimeout(self._timeout)

    def receive(self, target: memoryview) -> int:
        """Receive one piece, and return its size: 0 if the peer has closed."""
        try:
            if self._deadline is not None:
                left = self._deadline - time.monotonic()
                if left <= 0 and self._received:
                    raise TimeoutError("timed out")
                # 0 would make the socket non-blocking.
                self._sock.settimeout(max(left, 1e-6))
            received = self._sock.recv_into(target)
        except BaseException as error:
            del target
            # Frames of the ssl module in the traceback would keep the memory alive.
            raise error.with_traceback(None)  # noqa: B904 (it is the same error)
        self._received = True
        return received

    def fill(self, target: memoryview, filled: int, size: int) -> int:
        """Receive until ``size`` or more bytes of the target are filled, and return how many are.

        Raises EOFError or TimeoutError, which say how many came.
        """
        try:
            while filled < size:
                received = self.receive(target[filled:])
                if received == 0:
                    raise EOFError(f"the peer closed after {filled} of {size} bytes")
                filled += received
        except TimeoutError:
            raise TimeoutError(
                f"{filled} of {size} bytes came within {self._timeout} seconds"
            ) from None
        finally:
            del target
        return filled


class _Frames:
    """The iterator that ``frames`` returns. It keeps no message that it has handed out."""

    def __init__(
        self,
        sock: socket.socket,
        pool: bytepool.Pool,
        layout: FrameLayout,
        budget_timeout: float | None,
    ) -> None:
        self._sock = sock
        self._pool = pool
        self._layout = layout
        self._budget_timeout = budget_timeout
        # Bytes that were received and belong to no message yet are in [start, end).
        self._ahead = memoryview(bytearray(max(_AHEAD, layout.header, layout.strip)))
        self._start = self._end = 0
        self._ended = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> memoryview:
        if self._ended:
            raise StopIteration
        with _Receiver(self._sock, "frames()") as receiver:
            return self._receive(receiver)

    def _receive(self, receiver: _Receiver) -> memoryview:
        layout = self._layout
        if self._start == self._end:
            self._start, self._end = 0, receiver.receive(self._ahead)
            if self._end == 0:
                self._ended = True
                raise StopIteration
        self._need(receiver, layout.header)
        size = layout.message_size(self._ahead[self._start : self._start + layout.header])
        self._need(receiver, layout.strip)
        view = self._pool.view(size, timeout=self._budget_timeout)
        self._ended = True  # unless the rest of the frame comes
        try:
            self._start += layout.strip
            filled = self._take(view)
            # A large rest is received in place. A small one can come together with the next frame.
            if size - filled >= len(self._ahead):
                filled = receiver.fill(view, filled, size)
            if filled < size:
                self._need(receiver, size - filled)
                self._take(view[filled:])
        except BaseException:
            del view  # a traceback keeps this frame alive
            raise
        self._ended = False
        return view

    def _need(self, receiver: _Receiver, size: int) -> None:
        """Read ahead until there are ``size`` bytes or more."""
        if self._start + size > len(self._ahead):
            rest = self._end - self._start
            self._ahead[:rest] = self._ahead[self._start : self._end]
            self._start, self._end = 0, rest
        while self._end - self._start < size:
            received = receiver.receive(self._ahead[self._end :])
            if received == 0:
                raise EOFError(f"the peer closed inside a frame: {size} bytes should follow")
            self._end += received

    def _take(self, target: memoryview) -> int:
        """Move bytes that were read ahead into the target, and return how many."""
        taken = min(len(target), self._end - self._start)
        target[:taken] = self._ahead[self._start : self._start + taken]
        self._start += taken
        return taken
