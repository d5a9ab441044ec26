"""Sockets and files, for threads: whole messages and whole files in pooled memory."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

    import bytepool

__all__ = ["read_file", "recv_exactly"]

# Where a file does not say how large it is (pipes, /proc), this much is read to begin with.
_UNKNOWN_SIZE = 64 << 10


def recv_exactly(sock: socket.socket, n: int, pool: bytepool.Pool) -> memoryview:
    """Receive exactly ``n`` bytes, and return a memoryview of pooled memory that holds them.

    The socket's timeout bounds the whole message, not each piece of it.

    Raises EOFError if the peer closes before ``n`` bytes came, TimeoutError if they do not come in
    time, ValueError for a non-blocking socket, and what ``Pool.view`` raises. What had come by then
    is lost, and so is the place in the stream: close the socket. No other thread should use it
    meanwhile: it is the socket's own timeout that is shortened.
    """
    timeout = sock.gettimeout()
    if timeout == 0:
        raise ValueError("recv_exactly() needs a blocking socket, or one with a timeout")
    view = pool.view(n)
    filled = 0
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        while filled < len(view):
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 and filled:
                    raise TimeoutError
                # 0 would make the socket non-blocking; the least there is lets it look.
                sock.settimeout(max(left, 1e-6))
            received = sock.recv_into(view[filled:])
            if received == 0:
                raise EOFError(f"the peer closed after {filled} of {n} bytes")
            filled += received
    except BaseException as error:
        del view  # errors live long
        if isinstance(error, TimeoutError):
            raise TimeoutError(f"{filled} of {n} bytes came within {timeout} seconds") from None
        raise
    finally:
        if deadline is not None:
            with contextlib.suppress(OSError):  # closed meanwhile
                sock.settimeout(timeout)
    return view


def read_file(path: str | os.PathLike[str], pool: bytepool.Pool) -> memoryview:
    """Read a whole file, and return a memoryview of pooled memory that holds it.

    A file that grows or shrinks meanwhile is read up to its end as it is then.

    Raises what ``open`` raises, and what ``Pool.view`` raises.
    """
    with Path(path).open("rb", buffering=0) as file:
        view = pool.view(os.fstat(file.fileno()).st_size or _UNKNOWN_SIZE)
        filled = 0
        while True:
            while filled < len(view) and (received := file.readinto(view[filled:])):
                filled += received
            if filled < len(view) or not (more := file.read(1)):
                return view[:filled]
            larger = pool.view(2 * filled)
            larger[:filled] = view
            larger[filled : filled + 1] = more
            view, filled = larger, filled + 1
