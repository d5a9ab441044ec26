"""Situations from public bug reports of other pools, servers and libraries, tried on this one.

``docs/reliability.md`` names the report of each.
"""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zmq
from helpers import KIB, eventually, pattern
from streams_helpers import run_fixture

from bytepool import Pool, PoolExhaustedError, blocking, streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

run = run_fixture()


@pytest.fixture
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def connection() -> tuple[streams.StreamReader, asyncio.StreamWriter, socket.socket]:
    """Return a connection's two streams, and the peer's socket."""
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    peer.setblocking(False)
    reader, writer = await streams.open_connection(sock=ours)
    return reader, writer, peer


def test_short_lived_threads_leave_no_memory_behind() -> None:
    """A thread's buffers outlive it, and nothing of the pool belongs to a thread that has ended."""
    pool = Pool(4 * KIB, 64 * KIB, 4, max_idle_bytes=256 * KIB)
    outlived: list[memoryview] = []

    def work() -> None:
        views = [pool.view(random.randint(1, 64 * KIB)) for _ in range(10)]
        outlived.append(views[0])

    for _ in range(300):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert pool.stats().outstanding == 300
    assert pool.stats().idle_bytes <= 256 * KIB
    outlived.clear()
    stats = pool.stats()
    assert (stats.outstanding, stats.idle_bytes <= 256 * KIB) == (0, True)
    assert pool.trim() == stats.idle_bytes
    assert pool.stats().idle_bytes == 0


def test_memory_of_a_kept_error_comes_back_when_its_frames_are_cleared() -> None:
    """The pool's error holds nothing. Its traceback holds the variables of the functions."""
    pool = Pool(4 * KIB, 4 * KIB, max_bytes=4 * KIB)

    def handle() -> None:
        view = pool.view(4 * KIB)
        pool.view(len(view))

    with pytest.raises(PoolExhaustedError):
        handle()
    gc.collect()
    assert pool.stats().outstanding == 0
    kept: list[PoolExhaustedError] = []
    try:
        handle()
    except PoolExhaustedError as error:
        kept.append(error)
    assert pool.stats().outstanding == 1
    traceback.clear_frames(kept[0].__traceback__)
    assert pool.stats().outstanding == 0


def test_trimmed_and_evicted_memory_is_available_to_the_budget_again() -> None:
    pool = Pool(1 * KIB, 1024 * KIB, max_bytes=1024 * KIB)
    for _ in range(3):
        small = [pool.view(1 * KIB) for _ in range(1024)]
        small.clear()
        assert len(pool.view(1024 * KIB)) == 1024 * KIB  # idle memory of another size gives way
        pool.view(512 * KIB)
        pool.trim()
        assert (pool.stats().idle_bytes, pool.stats().outstanding_bytes) == (0, 0)
        assert len(pool.view(1024 * KIB)) == 1024 * KIB


SHAPES: dict[str, Callable[[memoryview], Any]] = {
    "32-bit items": lambda view: view.cast("I"),
    "two dimensions": lambda view: view.cast("B", shape=[len(view) // 4, 4]),
    "numpy, two dimensions": lambda view: np.frombuffer(view, np.float64).reshape(-1, 2),
    "scalar": lambda view: view[:8].cast("d", shape=[]),
}


@pytest.mark.parametrize("n", [16, 160_000])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_send_frame_sends_all_bytes_of_any_shape(shape: Callable[..., Any], n: int) -> None:
    pool = Pool()
    view = pool.view(n)
    view[:] = pattern(n)
    sent = memoryview(shape(view)).tobytes()
    left, right = socket.socketpair()
    with left, right:
        thread = threading.Thread(target=blocking.send_frame, args=(left, shape(view)))
        thread.start()
        received = next(iter(blocking.frames(right, pool)))
        thread.join()
    assert bytes(received) == sent


@pytest.mark.parametrize("n", [16, 160_000])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_streams_send_and_receive_all_bytes_of_any_shape(
    shape: Callable[..., Any], n: int, run: Callable[..., Any]
) -> None:
    pool = Pool()
    view, target = pool.view(n), pool.view(n)
    view[:], target[:] = pattern(n), bytes(n)
    sent = memoryview(shape(view)).tobytes()

    async def main() -> None:
        reader, writer, peer = await connection()
        other_reader, other = await streams.open_connection(sock=peer)
        streams.write_frame(other, shape(view))
        assert int.from_bytes(await reader.readexactly(4), "big") == len(sent)
        assert await reader.readinto(shape(target)) == len(sent)
        assert target[: len(sent)] == sent
        for end in (writer, other):
            end.close()
        assert await other_reader.read() == b""

    run(main())


@pytest.mark.parametrize(
    "target",
    [
        lambda: bytes(16),
        lambda: Pool().view(16).toreadonly(),
        lambda: Pool().view(32)[::2],
        lambda: np.frombuffer(bytes(16), np.uint8),
        lambda: "text",
    ],
)
def test_readinto_a_wrong_target_raises_and_loses_no_bytes(
    target: Callable[[], Any], run: Callable[..., Any]
) -> None:
    async def main() -> None:
        reader, writer, peer = await connection()
        peer.sendall(pattern(16))
        with pytest.raises(TypeError):
            await reader.readinto(target())
        assert await reader.readexactly(16) == pattern(16)
        writer.close()
        peer.close()

    run(main())


def test_a_read_only_view_stays_read_only_for_numpy() -> None:
    view = Pool().view(16)
    array = np.frombuffer(view.toreadonly(), np.uint8)
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1
    np.frombuffer(view, np.uint8)[0] = 7  # the view itself is writable
    assert array[0] == 7


def test_earlier_views_do_not_disturb_later_reads(run: Callable[..., Any]) -> None:
    """A view that is still in use must not lock the buffer of the stream."""
    messages = [pattern(n) for n in (4, 100_000, 5, 70_000, 300_000)]

    async def main() -> None:
        reader, writer, peer = await connection()
        task = asyncio.create_task(
            asyncio.get_running_loop().sock_sendall(peer, b"".join(messages) + b"line\n")
        )
        views = [await reader.readview(len(message)) for message in messages]
        assert await reader.readline() == b"line\n"
        assert [bytes(view) for view in views] == messages
        await task
        writer.close()
        peer.close()

    run(main())


@pytest.mark.usefixtures("_no_garbage_collection")
def test_a_frame_of_pyzmq_whose_buffer_was_read_gives_its_memory_back() -> None:
    pool = Pool()
    frame = zmq.Frame(pool.view(100 * KIB), copy=False)
    assert len(frame.buffer) == 100 * KIB
    del frame
    assert eventually(lambda: pool.stats().outstanding == 0)  # a thread of pyzmq drops it


@pytest.mark.usefixtures("_no_garbage_collection")
def test_idle_workers_of_an_executor_hold_no_view() -> None:
    pool = Pool()
    with ThreadPoolExecutor(2) as executor:
        for _ in range(4):
            assert len(executor.submit(pool.view, 100).result()) == 100
        list(executor.map(len, [pool.view(100) for _ in range(4)]))
        assert eventually(lambda: pool.stats().outstanding == 0)

        async def main() -> None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(executor, len, await asyncio.to_thread(pool.view, 100))

        asyncio.run(main())
        assert eventually(lambda: pool.stats().outstanding == 0)


def test_requests_that_wait_for_each_other_end_by_their_timeouts(run: Callable[..., Any]) -> None:
    """Each task holds a part of the budget, and waits for more: the classic deadlock."""
    pool = Pool(4 * KIB, 4 * KIB, max_bytes=4 * 4 * KIB)
    results: list[str] = []

    async def handle(index: int) -> None:
        with await pool.allocate_async(4 * KIB):
            await asyncio.sleep(0.01)  # now each has one, and none is left
            try:
                async with asyncio.timeout(0.05 * (index + 1)):
                    (await pool.allocate_async(4 * KIB)).release()
                results.append("served")
            except TimeoutError:
                results.append("timeout")

    async def main() -> None:
        await asyncio.gather(*(handle(index) for index in range(4)))
        assert results.count("timeout") >= 1
        assert results.count("served") >= 1, "one that gives up makes room for the others"
        assert pool.stats().outstanding == 0

    run(main())
