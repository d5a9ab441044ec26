"""``bytepool.blocking``: whole messages and whole files, for threads."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern

from bytepool.blocking import read_file, recv_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bytepool import Pool


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


Pair = tuple[socket.socket, socket.socket]


def test_a_message_in_pieces(pair: Pair, pool: Pool) -> None:
    left, right = pair

    def send() -> None:
        for i in range(0, 3000, 100):
            left.sendall(pattern(3000)[i : i + 100])
            time.sleep(0.0005)

    sender = threading.Thread(target=send)
    sender.start()
    view = recv_exactly(right, 3000, pool)
    sender.join()
    assert view == pattern(3000)
    assert pool.stats().outstanding == 1
    assert recv_exactly(right, 0, pool).nbytes == 0


def test_not_a_byte_more_than_asked(pair: Pair, pool: Pool) -> None:
    left, right = pair
    left.sendall(b"abcdef")
    assert bytes(recv_exactly(right, 4, pool)) == b"abcd"
    assert right.recv(10) == b"ef"


def test_the_peer_closes_early(pair: Pair, pool: Pool) -> None:
    left, right = pair
    left.sendall(b"abc")
    left.close()
    with pytest.raises(EOFError, match="the peer closed after 3 of 10 bytes"):
        recv_exactly(right, 10, pool)


def test_the_timeout_bounds_the_whole_message(pair: Pair, pool: Pool) -> None:
    """Bytes that trickle in do not prolong it."""
    left, right = pair
    right.settimeout(0.2)
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.02):
            left.sendall(b"x")

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        with pytest.raises(TimeoutError, match=r"\d+ of 1000 bytes came within 0.2 seconds"):
            recv_exactly(right, 1000, pool)
    finally:
        stop.set()
        sender.join()
    assert right.gettimeout() == 0.2
    left.sendall(b"y")
    assert recv_exactly(right, 1, pool)


def test_non_blocking_sockets_and_bad_sizes_are_refused(pair: Pair, pool: Pool) -> None:
    _, right = pair
    with pytest.raises(ValueError, match="not -1"):
        recv_exactly(right, -1, pool)
    right.setblocking(False)
    with pytest.raises(ValueError, match="needs a blocking socket"):
        recv_exactly(right, 1, pool)
    assert pool.stats().outstanding == 0


def test_signals_do_not_disturb_it(pair: Pair, pool: Pool) -> None:
    left, right = pair
    caught = []
    before = signal.signal(signal.SIGALRM, lambda *_: caught.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    try:
        sender = threading.Timer(0.1, left.sendall, [b"x" * 100])
        sender.start()
        assert bytes(recv_exactly(right, 100, pool)) == b"x" * 100
        sender.join()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert len(caught) > 2


@pytest.mark.parametrize("n", [0, 1, 4095, 4096, 4097, 300_000])
def test_a_file(tmp_path: Path, n: int, pool: Pool) -> None:
    path = tmp_path / "file"
    path.write_bytes(pattern(n))
    assert read_file(path, pool) == pattern(n)
    assert read_file(str(path), pool).nbytes == n


def test_a_file_that_does_not_say_how_large_it_is(pool: Pool) -> None:
    assert b"pytest" in bytes(read_file("/proc/self/cmdline", pool))
    reading, writing = os.pipe()
    content = pattern(250_000)

    def write() -> None:
        with open(writing, "wb") as file:  # noqa: PTH123
            file.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_file(f"/dev/fd/{reading}", pool) == content
    writer.join()
    os.close(reading)


def test_a_file_that_changes_its_size_meanwhile(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(pattern(10_000))
    real = os.fstat

    def misjudged(size: int) -> None:
        def fstat(fd: int) -> os.stat_result:
            fields = list(real(fd))
            fields[6] = size
            return os.stat_result(fields)

        monkeypatch.setattr("bytepool.blocking.os.fstat", fstat)

    for size in (1, 9_999, 10_000, 10_001, 50_000):
        misjudged(size)
        assert read_file(path, pool) == pattern(10_000)


def test_no_such_file(pool: Pool) -> None:
    with pytest.raises(FileNotFoundError, match="no_such_file"):
        read_file("no_such_file", pool)
    assert pool.stats().outstanding == 0


def test_bytes_that_keep_coming_do_not_prolong_it(pair: Pair, pool: Pool) -> None:
    class Quick(socket.socket):
        """Another byte is always there."""

        def recv_into(self, buffer: Any) -> int:  # type: ignore[override]
            time.sleep(0.02)
            left.sendall(b"x")
            return super().recv_into(buffer[:1])

    left, right = pair
    with Quick(fileno=right.detach()) as quick:
        quick.settimeout(0.1)
        with pytest.raises(TimeoutError, match=r"of 100 bytes came within 0\.1 seconds"):
            recv_exactly(quick, 100, pool)


def test_what_a_signal_raises_is_not_lost_when_the_socket_is_closed_meanwhile(
    pair: Pair, pool: Pool
) -> None:
    _, right = pair
    right.settimeout(5)

    def close(*_: object) -> None:
        right.close()
        raise SystemExit("from a handler")

    before = signal.signal(signal.SIGALRM, close)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        with pytest.raises(SystemExit, match="from a handler"):
            recv_exactly(right, 10, pool)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_an_error_does_not_keep_the_memory(pair: Pair, pool: Pool) -> None:
    left, right = pair
    left.close()
    with pytest.raises(EOFError) as error:
        recv_exactly(right, 10, pool)
    assert error.value.__traceback__
    assert pool.stats().outstanding == 0
