"""The one rule: a buffer is returned when the object that exports it dies, and only then.

Every library in ``holders.py`` keeps pooled memory while the user gives up the handle in every
possible way. The tests then reuse the pool. The holder must still see its own bytes, and its end
must return the buffer.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import io
import mmap
import pickle
import queue
import struct
import threading
import time
import zlib
from array import array
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq
from helpers import pattern, reuse_hard
from holders import HOLDERS, WAYS, N

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_for_pyzmq(pool: Pool) -> None:
    """Pyzmq drops the messages that it held in a thread of its own."""
    deadline = time.monotonic() + 10
    while pool.stats().outstanding and time.monotonic() < deadline:
        time.sleep(0.01)


@pytest.fixture(params=["Pool", "null"])
def lender(request: pytest.FixtureRequest) -> Pool:
    return Pool.null() if request.param == "null" else Pool(1024, 1 << 16, 4)


@pytest.mark.parametrize("exporter", [False, True], ids=["view", "view.obj"])
@pytest.mark.parametrize("let_go", WAYS)
@pytest.mark.parametrize("name", HOLDERS)
def test_holder_keeps_its_bytes_after_the_handle_is_gone(
    name: str, let_go: Callable[..., Any], exporter: bool, lender: Pool
) -> None:
    make, see = HOLDERS[name]
    view, finish = let_go(lender)
    buffer = view.obj if exporter else view
    holder = make(buffer)
    view[:] = pattern(N)
    expected = see(holder)
    assert any(expected), "the holder sees later writes, so it holds the memory and not a copy"

    del view, buffer
    finish()
    assert lender.stats().outstanding == 1, "the buffer is still in use"
    reuse_hard(lender, N)
    assert see(holder) == expected

    del holder, finish
    gc.collect()
    if name.startswith("zmq"):
        wait_for_pyzmq(lender)
    stats = lender.stats()
    assert stats.outstanding == 0, "the buffer was returned"
    for bucket in stats.buckets:
        assert bucket.hits + bucket.misses == bucket.returned


def mapped(view: memoryview) -> bytes:
    with mmap.mmap(-1, len(view)) as memory:
        memory[:] = view
        return bytes(memory)


@pytest.mark.parametrize("let_go", WAYS)
def test_copies_hold_no_memory_of_the_pool(let_go: Callable[..., Any], lender: Pool) -> None:
    content = pattern(N)
    view, finish = let_go(lender)
    view[:] = content
    copies = [
        bytes(view),
        bytearray(view),
        view.tobytes(),
        io.BytesIO(view).getvalue(),
        array("B", view.tobytes()).tobytes(),
        pickle.loads(pickle.dumps(np.frombuffer(view, np.uint8))).tobytes(),
        np.array(view).tobytes(),
        zmq.Frame(view, copy=True).bytes,
        zlib.decompress(zlib.compress(view)),
        struct.unpack(f"{N}s", view)[0],
        mapped(view),
    ]
    del view
    finish()
    reuse_hard(lender, N)
    assert lender.stats().outstanding == 0
    assert all(copy == content for copy in copies)


def test_view_of_a_released_view_keeps_the_buffer(lender: Pool) -> None:
    """The views in between were released explicitly."""
    content = pattern(N)
    with lender.view(N) as outer:
        outer[:] = content
        middle = outer[10:]
        inner = memoryview(middle)[10:]
    middle.release()
    reuse_hard(lender, N)
    assert inner == content[20:]
    inner.release()
    assert lender.stats().outstanding == 0


def test_view_release_returns_the_buffer(lender: Pool) -> None:
    view = lender.view(N)
    view.release()
    assert lender.stats().outstanding == 0
    with pytest.raises(ValueError, match="released"):
        view[0]


def test_buffer_is_returned_after_the_last_of_two_holders(lender: Pool) -> None:
    alloc = lender.allocate(N)
    first, second = np.asarray(alloc.bytes()), np.asarray(alloc.bytes())
    alloc.release()
    assert (lender.stats().outstanding, lender.stats().deferred) == (1, 1)
    first[:] = 7
    del first
    reuse_hard(lender, N)
    assert lender.stats().outstanding == 1
    assert (second == 7).all()
    del second
    assert lender.stats().outstanding == 0


def test_reference_to_the_exporter_alone_keeps_the_buffer(lender: Pool) -> None:
    content = pattern(N)
    alloc = lender.allocate(N)
    alloc.bytes()[:] = content
    exporter = alloc.bytes().obj
    alloc.release()
    reuse_hard(lender, N)
    assert bytes(exporter) == content
    del exporter
    assert lender.stats().outstanding == 0


def test_buffer_request_from_c_without_a_view_raises(lender: Pool) -> None:
    """``PyObject_GetBuffer(lease, NULL, 0)``, as faulty C code might call it."""
    get_buffer = ctypes.pythonapi.PyObject_GetBuffer
    get_buffer.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
    view = lender.view(N)
    with pytest.raises(BufferError, match="view==NULL"):
        get_buffer(view.obj, None, 0)
    del view
    assert lender.stats().outstanding == 0


def test_iterator_over_a_view_keeps_the_buffer(lender: Pool) -> None:
    alloc = lender.allocate(N)
    alloc.bytes()[:] = pattern(N)
    numbers = struct.iter_unpack("B", alloc.bytes())
    alloc.release()
    reuse_hard(lender, N)
    assert bytes(number for (number,) in numbers) == pattern(N)
    del numbers
    assert lender.stats().outstanding == 0


def test_zmq_sends_the_original_bytes_after_the_pool_was_reused() -> None:
    """The queue of the socket refers to the frames by address, long after their release."""
    pool = Pool(1024, 1 << 16, 4)
    context = zmq.Context()
    sender, receiver = context.socket(zmq.PUSH), context.socket(zmq.PULL)
    try:
        sender.copy_threshold = 0  # pyzmq copies smaller frames by default
        sender.connect("inproc://frames")
        sent = [pattern(N - i) for i in range(20)]
        for message in sent:
            with pool.allocate(len(message)) as alloc:
                alloc.bytes()[:] = message
                sender.send(alloc.bytes(), copy=False)
        assert pool.stats().deferred == 20
        reuse_hard(pool, N)
        receiver.bind("inproc://frames")
        assert [receiver.recv() for _ in sent] == sent
    finally:
        context.destroy(linger=0)
    wait_for_pyzmq(pool)
    assert pool.stats().outstanding == 0


def test_hash_is_right_though_the_handle_is_released_meanwhile() -> None:
    """Hashing releases the GIL. Other threads release, reuse and overwrite buffers meanwhile."""
    pool = Pool(1 << 20, 1 << 20, 4)
    content = pattern(1 << 20)
    expected = hashlib.sha256(content).digest()
    over = threading.Event()

    def reuse() -> None:
        while not over.is_set():
            reuse_hard(pool, 1 << 20)

    others = [threading.Thread(target=reuse) for _ in range(2)]
    for other in others:
        other.start()
    try:
        for _ in range(30):
            alloc = pool.allocate(1 << 20)
            alloc.bytes()[:] = content
            digest = hashlib.sha256()
            # Only the call holds the view, and the handle is gone before the hash is done.
            release = threading.Thread(target=alloc.release)
            view = alloc.bytes()
            release.start()
            digest.update(view)
            del view
            release.join()
            assert digest.digest() == expected
    finally:
        over.set()
        for other in others:
            other.join()
    assert pool.stats().outstanding == 0


def test_holders_passed_to_another_thread_keep_their_bytes(lender: Pool) -> None:
    """One thread makes the holders. Another thread reads their bytes and drops them."""
    made: queue.SimpleQueue[tuple[str, Any, bytes] | None] = queue.SimpleQueue()
    failures: list[str] = []

    def check_and_drop() -> None:
        while (item := made.get()) is not None:
            name, holder, expected = item
            reuse_hard(lender, N)
            if HOLDERS[name][1](holder) != expected:
                failures.append(name)
            del item, holder

    thread = threading.Thread(target=check_and_drop)
    thread.start()
    for name, (make, see) in HOLDERS.items():
        with lender.allocate(N) as alloc:
            alloc.bytes()[:] = pattern(N)
            holder = make(alloc.bytes())
            made.put((name, holder, see(holder)))
            del holder
    made.put(None)
    thread.join()
    gc.collect()
    wait_for_pyzmq(lender)
    assert failures == []
    assert lender.stats().outstanding == 0
