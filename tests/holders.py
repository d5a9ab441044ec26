"""Everything that can hold pooled memory, and every way to give up a handle."""

from __future__ import annotations

import contextlib
import ctypes
import io
import pickle
import re
import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import zmq
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

    from bytepool import Pool

N = 60_000


def pickled_out_of_band(buffer: Any) -> Any:
    buffers: list[pickle.PickleBuffer] = []
    data = pickle.dumps(pickle.PickleBuffer(buffer), protocol=5, buffer_callback=buffers.append)
    return pickle.loads(data, buffers=buffers)


def arrow_array(buffer: Any) -> pa.Array:
    return pa.Array.from_buffers(pa.uint8(), N, [None, pa.py_buffer(buffer)])


class Raw(io.RawIOBase):
    """A user's own class that keeps the buffer in an attribute."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = memoryview(buffer)[7:]

    def seen(self) -> bytes:
        return bytes(self.buffer)


# name: (make a holder of a buffer, return the bytes that the holder sees)
HOLDERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], bytes]]] = {
    "memoryview": (memoryview, bytes),
    "slice": (lambda b: memoryview(b)[100:-100], bytes),
    "strided slice": (lambda b: memoryview(b)[::7], bytes),
    "cast": (lambda b: memoryview(b).cast("I"), bytes),
    "toreadonly": (lambda b: memoryview(b).toreadonly(), bytes),
    "np.frombuffer": (lambda b: np.frombuffer(b, dtype=np.uint16), lambda a: bytes(a.tobytes())),
    "np.asarray": (np.asarray, lambda a: bytes(a.tobytes())),
    "np.ndarray(buffer=)": (
        lambda b: np.ndarray((N // 8, 8), dtype=np.uint8, buffer=b),
        lambda a: bytes(a.tobytes()),
    ),
    "np.ndarray slice": (
        lambda b: np.ndarray(N, dtype=np.uint8, buffer=b)[5:-5:3],
        lambda a: bytes(a.tobytes()),
    ),
    "pa.py_buffer": (pa.py_buffer, bytes),
    "pa.py_buffer slice": (lambda b: pa.py_buffer(b).slice(1000, 2000), bytes),
    "pa.Array": (arrow_array, lambda a: bytes(a.buffers()[1])),
    "ctypes.from_buffer": (lambda b: (ctypes.c_char * N).from_buffer(b), bytes),
    "ctypes.from_buffer part": (lambda b: (ctypes.c_char * 500).from_buffer(b, 300), bytes),
    "pickle.PickleBuffer": (pickle.PickleBuffer, bytes),
    "pickle out of band": (pickled_out_of_band, bytes),
    "zmq.Frame": (lambda b: zmq.Frame(b, copy=False), lambda f: bytes(f.buffer)),
    "PIL.Image": (
        lambda b: Image.frombuffer("L", (300, 200), b, "raw", "L", 0, 1),
        Image.Image.tobytes,
    ),
    "a user's class": (Raw, Raw.seen),
    "re.Match": (lambda b: re.compile(rb"(?s).*").match(b), lambda m: bytes(m.group())),
}


if find_spec("cffi"):  # cffi does not support free-threaded CPython 3.13
    import cffi

    FFI = cffi.FFI()
    HOLDERS["cffi.from_buffer"] = (
        lambda b: FFI.from_buffer(b, require_writable=True),
        lambda c: bytes(FFI.buffer(c)),
    )
if find_spec("zstandard"):  # zstandard does not support CPython 3.15
    import zstandard

    HOLDERS["zstandard.BufferWithSegments"] = (
        lambda b: zstandard.BufferWithSegments(b, struct.pack("=QQ", 100, N - 200)),
        lambda segments: bytes(segments[0].tobytes()),
    )


# Each way takes a buffer and returns a view of it, and the call that gives up the handle.
def by_release(pool: Pool) -> tuple[Any, Callable[[], object]]:
    alloc = pool.allocator()
    return alloc.allocate(N), alloc.release


def by_with(pool: Pool) -> tuple[Any, Callable[[], object]]:
    block = contextlib.ExitStack()
    alloc = block.enter_context(pool.allocate(N))
    return alloc.bytes(), block.close


def by_dropping_the_handle(pool: Pool) -> tuple[Any, Callable[[], object]]:
    handles = [pool.allocate(N)]
    return handles[0].bytes(), handles.clear


def by_pool_view(pool: Pool) -> tuple[Any, Callable[[], object]]:
    return pool.view(N), lambda: None


WAYS = [by_release, by_with, by_dropping_the_handle, by_pool_view]
