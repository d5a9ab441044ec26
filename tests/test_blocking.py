"""``bytepool.blocking``: whole messages and whole files, for threads."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from helpers import KIB, LONG, SHORT, budget_pool, pattern, start_thread, wait_for_waiters

import bytepool
from bytepool import Pool, PoolExhaustedError
from bytepool.blocking import read_file, recv_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@contextlib.contextmanager
def alarm(handler: Any, seconds: float, interval: float = 0) -> Iterator[None]:
    """Call the handler in the main thread, once or at each interval, until the end of the block."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, seconds, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class TestRecvExactly:
    def test_message_may_come_in_pieces(self, pair: Pair, pool: Pool) -> None:
        left, right = pair

        def send() -> None:
            for i in range(0, 3000, 100):
                left.sendall(pattern(3000)[i : i + 100])
                time.sleep(0.0005)

        sender = start_thread(send)
        view = recv_exactly(right, 3000, pool)
        sender.join()
        assert view == pattern(3000)
        assert pool.stats().outstanding == 1
        assert recv_exactly(right, 0, pool).nbytes == 0

    def test_receives_no_byte_past_the_message(self, pair: Pair, pool: Pool) -> None:
        left, right = pair
        left.sendall(b"abcdef")
        assert bytes(recv_exactly(right, 4, pool)) == b"abcd"
        assert right.recv(10) == b"ef"

    def test_default_pool_is_used_without_a_pool(self, pair: Pair) -> None:
        left, right = pair
        left.sendall(b"abc")
        before = bytepool.default_pool().stats()
        view = recv_exactly(right, 3)
        assert (bytepool.default_pool().stats() - before).outstanding == 1
        assert bytes(view) == b"abc"

    def test_peer_that_closes_early_raises_eof_error(self, pair: Pair, pool: Pool) -> None:
        left, right = pair
        left.sendall(b"abc")
        left.close()
        with pytest.raises(EOFError, match="the peer closed after 3 of 10 bytes"):
            recv_exactly(right, 10, pool)

    def test_timeout_bounds_the_whole_message(self, pair: Pair, pool: Pool) -> None:
        left, right = pair
        right.settimeout(0.2)
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.02):
                left.sendall(b"x")

        sender = start_thread(trickle)
        try:
            with pytest.raises(TimeoutError, match=r"\d+ of 1000 bytes came within 0.2 seconds"):
                recv_exactly(right, 1000, pool)
        finally:
            stop.set()
            sender.join()
        assert right.gettimeout() == 0.2
        left.sendall(b"y")
        assert recv_exactly(right, 1, pool)

    def test_bytes_that_always_wait_do_not_extend_the_timeout(self, pair: Pair, pool: Pool) -> None:
        class Quick(socket.socket):
            def recv_into(self, buffer: Any) -> int:  # type: ignore[override]
                time.sleep(0.02)
                left.sendall(b"x")
                return super().recv_into(buffer[:1])

        left, right = pair
        with Quick(fileno=right.detach()) as quick:
            quick.settimeout(0.1)
            with pytest.raises(TimeoutError, match=r"of 100 bytes came within 0\.1 seconds"):
                recv_exactly(quick, 100, pool)

    def test_non_blocking_sockets_and_bad_sizes_raise(self, pair: Pair, pool: Pool) -> None:
        _, right = pair
        with pytest.raises(ValueError, match="not -1"):
            recv_exactly(right, -1, pool)
        right.setblocking(False)
        with pytest.raises(ValueError, match="needs a blocking socket"):
            recv_exactly(right, 1, pool)
        assert pool.stats().outstanding == 0

    def test_signals_do_not_end_it(self, pair: Pair, pool: Pool) -> None:
        left, right = pair
        caught = []
        with alarm(lambda *_: caught.append(1), 0.01, 0.01):
            sender = threading.Timer(0.1, left.sendall, [b"x" * 100])
            sender.start()
            assert bytes(recv_exactly(right, 100, pool)) == b"x" * 100
            sender.join()
        assert len(caught) > 2

    def test_error_of_a_signal_handler_that_closes_the_socket_is_raised(
        self, pair: Pair, pool: Pool
    ) -> None:
        _, right = pair
        right.settimeout(5)

        def close(*_: object) -> None:
            right.close()
            raise SystemExit("from a handler")

        with alarm(close, 0.05), pytest.raises(SystemExit, match="from a handler"):
            recv_exactly(right, 10, pool)

    def test_budget_timeout_waits_for_the_budget(self, pair: Pair) -> None:
        left, right = pair
        left.sendall(b"abc")
        pool = budget_pool(1)
        views = [pool.view(1)]
        for options in ({}, {"budget_timeout": SHORT}):
            with pytest.raises(PoolExhaustedError):
                recv_exactly(right, 3, pool, **options)
        thread = start_thread(lambda: wait_for_waiters(pool, 1), views.clear)
        assert bytes(recv_exactly(right, 3, pool, budget_timeout=LONG)) == b"abc"
        thread.join()


class TestErrorsKeepNoMemory:
    def test_end_of_the_stream(self, pair: Pair, pool: Pool) -> None:
        left, right = pair
        left.close()
        with pytest.raises(EOFError) as error:
            recv_exactly(right, 10, pool)
        assert error.value.__traceback__
        assert pool.stats().outstanding == 0

    @pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "tls"])
    def test_timeout(self, pair: Pair, pool: Pool, with_tls: bool) -> None:
        """The frames of the ssl module hold the target as well."""
        left, right = pair
        if with_tls:
            authority = trustme.CA()
            server, client = (
                ssl.SSLContext(p) for p in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT)
            )
            authority.issue_cert("localhost").configure_cert(server)
            authority.configure_trust(client)
            servers: list[socket.socket] = []
            thread = start_thread(
                lambda: servers.append(server.wrap_socket(left, server_side=True))
            )
            right = client.wrap_socket(right, server_hostname="localhost")
            thread.join()
            left = servers[0]
        with left, right:
            left.sendall(b"abc")
            right.settimeout(SHORT)
            with pytest.raises(TimeoutError, match="3 of 10 bytes") as error:
                recv_exactly(right, 10, pool)
            assert error.value.__traceback__
            assert pool.stats().outstanding == 0

    def test_error_of_a_signal_handler(self, pair: Pair, pool: Pool) -> None:
        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        with alarm(interrupt, 0.05), pytest.raises(KeyboardInterrupt) as error:
            recv_exactly(pair[1], 10, pool)
        assert error.value.__traceback__
        assert pool.stats().outstanding == 0


class TestReadFile:
    @pytest.mark.parametrize("n", [0, 1, 4095, 4096, 4097, 300_000])
    def test_regular_files(self, tmp_path: Path, n: int, pool: Pool) -> None:
        path = tmp_path / "file"
        path.write_bytes(pattern(n))
        assert read_file(path, pool) == pattern(n)
        assert read_file(str(path), pool).nbytes == n
        assert read_file(path).nbytes == n

    @pytest.mark.parametrize("n", [0, 100, 64 * KIB, 64 * KIB + 1, 250_000])
    def test_pipes_do_not_tell_their_size(self, n: int, pool: Pool) -> None:
        reading, writing = os.pipe()
        content = pattern(n)

        def write() -> None:
            with open(writing, "wb") as file:  # noqa: PTH123
                file.write(content)

        writer = start_thread(write)
        assert read_file(f"/dev/fd/{reading}", pool) == content
        writer.join()
        os.close(reading)

    def test_files_of_proc_do_not_tell_their_size(self, pool: Pool) -> None:
        assert b"pytest" in bytes(read_file("/proc/self/cmdline", pool))

    @pytest.mark.parametrize("n", [0, 60_000, 64 * KIB, 200_000])
    @pytest.mark.parametrize("size", [0, 4096])
    def test_special_files_that_refuse_small_reads(
        self, pool: Pool, monkeypatch: pytest.MonkeyPatch, n: int, size: int
    ) -> None:
        """As /proc/self/pagemap does. It is too long to read as a whole."""
        content = pattern(n)

        class Special:
            def __init__(self) -> None:
                self.place = 0

            def __enter__(self) -> Special:
                return self

            def __exit__(self, *_: object) -> None: ...

            def fileno(self) -> int:
                return 0

            def readinto(self, buffer: memoryview) -> int:
                part = self.read(len(buffer))
                buffer[: len(part)] = part
                return len(part)

            def read(self, n: int) -> bytes:
                if n % 8:
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
                part = content[self.place : self.place + n]
                self.place += len(part)
                return part

        fields = [0o100600, *[0] * 5, size, *[0] * 3]
        monkeypatch.setattr(Path, "open", lambda *_, **__: Special())
        monkeypatch.setattr("bytepool.blocking.os.fstat", lambda _: os.stat_result(fields))
        assert read_file("special", pool) == content

    def test_file_that_changes_its_size_is_read_to_its_end(
        self, tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "file"
        path.write_bytes(pattern(10_000))
        real = os.fstat

        def report(size: int) -> None:
            def fstat(fd: int) -> os.stat_result:
                fields = list(real(fd))
                fields[6] = size
                return os.stat_result(fields)

            monkeypatch.setattr("bytepool.blocking.os.fstat", fstat)

        for size in (1, 5_000, 9_999, 10_000, 10_001, 50_000):
            report(size)
            assert read_file(path, pool) == pattern(10_000)

    def test_missing_file_raises(self, pool: Pool) -> None:
        with pytest.raises(FileNotFoundError, match="no_such_file"):
            read_file("no_such_file", pool)
        assert pool.stats().outstanding == 0

    def test_budget_timeout_waits_for_the_budget(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"abc")
        pool = budget_pool(1)
        views = [pool.view(1)]
        for options in ({}, {"budget_timeout": SHORT}):
            with pytest.raises(PoolExhaustedError):
                read_file(path, pool, **options)
        thread = start_thread(lambda: wait_for_waiters(pool, 1), views.clear)
        assert bytes(read_file(path, pool, budget_timeout=LONG)) == b"abc"
        thread.join()

    def test_error_keeps_no_memory(self) -> None:
        """The second buffer does not fit the budget."""
        pool = Pool(64 * KIB, 1 << 20, max_bytes=150 * KIB)
        reading, writing = os.pipe()
        writer = start_thread(lambda: os.write(writing, bytes(65 * KIB)), lambda: os.close(writing))
        with pytest.raises(PoolExhaustedError) as error:
            read_file(f"/dev/fd/{reading}", pool, budget_timeout=None)
        os.read(reading, 64 * KIB)
        writer.join()
        os.close(reading)
        gc.collect()
        assert error.value.__traceback__
        assert pool.stats().outstanding == 0
