"""``transport.write(view)`` and then ``release()``: what an event loop still has to send is safe.

A pool made of a deque and bytearrays sends the next message's bytes here, on CPython 3.12 and newer
and on uvloop, which queue the memory itself and not a copy of it.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
from typing import TYPE_CHECKING

import pytest
import uvloop
from helpers import pattern, reuse_hard

from bytepool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

N = 1 << 20
MESSAGES = 4


def write_and_release(pool: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
    alloc = pool.allocate(len(message))
    alloc.bytes()[:] = message
    transport.write(alloc.bytes())
    alloc.release()


def write_in_a_block(pool: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
    with pool.allocate(len(message)) as alloc:
        alloc.bytes()[:] = message
        transport.write(alloc.bytes())


def write_and_drop(pool: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
    alloc = pool.allocate(len(message))
    alloc.bytes()[:] = message
    transport.write(alloc.bytes())


def write_a_view(pool: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
    view = pool.view(len(message))
    view[:] = message
    transport.write(view)


def write_slices(pool: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
    with pool.allocate(len(message)) as alloc:
        alloc.bytes()[:] = message
        transport.writelines([alloc.bytes()[:1000], alloc.bytes()[1000:]])


def write_the_exporter(pool: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
    view = pool.view(len(message))
    view[:] = message
    transport.write(view.obj)  # type: ignore[arg-type]


async def send(
    pool: Pool, write: Callable[[Pool, asyncio.WriteTransport, bytes], None], messages: list[bytes]
) -> bytes:
    """Write all messages to a peer that does not read yet, reuse the pool, let the peer read."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # Little room in the system, so that nearly all of it waits in the transport.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 14)
        sock.connect(listener.getsockname())
        peer, _ = listener.accept()
    sock.setblocking(False)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    peer.settimeout(30)
    with peer:
        for message in messages:
            write(pool, transport, message)
            reuse_hard(pool, len(message))
        transport.close()  # as soon as everything is sent
        received = await loop.run_in_executor(None, read_to_the_end, peer)
    for _ in range(3):
        await asyncio.sleep(0)
    return received


def read_to_the_end(peer: socket.socket) -> bytes:
    chunks = []
    while chunk := peer.recv(1 << 18):
        chunks.append(chunk)
    return b"".join(chunks)


def run(loop_name: str, main: Coroutine[None, None, bytes]) -> bytes:
    factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


WAYS = [write_and_release, write_in_a_block, write_and_drop, write_a_view, write_slices]


@pytest.mark.parametrize(
    ("loop_name", "write"),
    [
        *((loop_name, way) for loop_name in ("asyncio", "uvloop") for way in WAYS),
        ("uvloop", write_the_exporter),
    ],
)
@pytest.mark.parametrize("null", [False, True], ids=["Pool", "null"])
def test_the_peer_gets_every_byte_as_written(
    null: bool, write: Callable[[Pool, asyncio.WriteTransport, bytes], None], loop_name: str
) -> None:
    pool = Pool.null() if null else Pool(4096, N, 4)
    messages = [pattern(N - i)[i:] for i in range(MESSAGES)]
    received = run(loop_name, send(pool, write, messages))
    assert len(received) == sum(map(len, messages))
    wrong = sum(a != b for a, b in zip(received, b"".join(messages), strict=True))
    assert wrong == 0
    assert pool.stats().outstanding == 0


def test_asyncio_itself_refuses_the_exporter() -> None:
    with pytest.raises(TypeError, match="must be a bytes"):
        run("asyncio", send(Pool(), write_the_exporter, [b"message"]))


def test_static_buffer_that_is_reused_too_soon_sends_wrong_bytes() -> None:
    """The same run with one static bytearray, which uvloop sends as it is when it gets to it."""
    memory = bytearray(N)

    def write(_: Pool, transport: asyncio.WriteTransport, message: bytes) -> None:
        memory[: len(message)] = message
        transport.write(memoryview(memory)[: len(message)])

    messages = [bytes([i]) * N for i in range(MESSAGES)]
    received = run("uvloop", send(Pool(4096, N, 4), write, messages))
    digest = hashlib.sha256(b"".join(messages)).digest()
    assert hashlib.sha256(received).digest() != digest
