"""``bytepool.blocking``: length-prefixed messages, for threads."""

from __future__ import annotations

import socket
import struct
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from helpers import KIB, LONG, SHORT, budget_pool, pattern, start_thread, wait_for_waiters
from hypothesis import given
from hypothesis import strategies as st

import bytepool
from bytepool import Pool, PoolExhaustedError
from bytepool.blocking import frames, send_frame
from bytepool.streams import write_frame

if TYPE_CHECKING:
    from collections.abc import Iterator

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def send(sock: socket.socket, *pieces: bytes) -> None:
    """Send the pieces one by one, then close."""
    with sock:
        for piece in pieces:
            sock.sendall(piece)


def exchange(messages: list[bytes], pool: Pool, prefix: bytes = b"", **layout: Any) -> list[bytes]:
    """Send messages with ``send_frame``, and return what ``frames`` receives."""
    left, right = socket.socketpair()

    def send_all() -> None:
        with left:
            for message in messages:
                send_frame(left, message, header=prefix, **layout)

    with right:
        sender = start_thread(send_all)
        iterator = frames(right, pool, offset=len(prefix), **layout)
        received = [bytes(message) for message in iterator]
        sender.join()
    return received


def test_messages_of_all_sizes_arrive(pool: Pool) -> None:
    sizes = [0, 1, 100, 16 * KIB - 5, 16 * KIB - 4, 16 * KIB, 16 * KIB + 1, 0, 300_000, 5, 70_000]
    messages = [pattern(n) for n in sizes]
    assert exchange(messages, pool) == messages
    assert pool.stats().outstanding == 0


@given(
    sizes=st.lists(st.integers(0, 40_000), max_size=8),
    cuts=st.lists(st.integers(1, 20_000), min_size=1, max_size=8),
    length_size=st.integers(2, 8),
    byteorder=st.sampled_from(["big", "little"]),
    prefix=st.binary(max_size=20),
    adjustment=st.sampled_from([0, -12, 7]),
    strip=st.none() | st.integers(0, 30),
)
def test_any_layout_cut_anywhere(
    sizes: list[int],
    cuts: list[int],
    length_size: int,
    byteorder: Any,
    prefix: bytes,
    adjustment: int,
    strip: int | None,
) -> None:
    header = len(prefix) + length_size
    dropped = header if strip is None else strip
    bodies = [pattern(n) for n in sizes if n - adjustment >= 0 and header + n >= dropped]
    whole = [
        prefix + (len(body) - adjustment).to_bytes(length_size, byteorder) + body for body in bodies
    ]
    stream = b"".join(whole)
    pieces = []
    for i in range(1000):
        if not stream:
            break
        cut = cuts[i % len(cuts)]
        pieces.append(stream[:cut])
        stream = stream[cut:]
    left, right = socket.socketpair()
    with right:
        sender = start_thread(lambda: send(left, *pieces, stream))
        received = frames(
            right,
            Pool(),
            length_size=length_size,
            byteorder=byteorder,
            offset=len(prefix),
            adjustment=adjustment,
            strip=strip,
        )
        assert [bytes(message) for message in received] == [frame[dropped:] for frame in whole]
        sender.join()


@pytest.mark.parametrize(
    ("prefix", "layout"),
    [
        (b"", {}),
        (b"", {"length_size": 1}),
        (b"", {"length_size": 3, "byteorder": "little"}),
        (b"", {"length_size": 4, "adjustment": -4}),
        (b"\xca\xfe", {"length_size": 2}),
        (b"\xca\xfe", {"length_size": 2, "adjustment": -4}),
    ],
)
def test_send_frame_and_frames_agree(pool: Pool, prefix: bytes, layout: dict[str, Any]) -> None:
    messages = [b"abc", b"", pattern(200)]
    assert exchange(messages, pool, prefix, **layout) == messages


def test_known_bytes(pair: Pair, pool: Pool) -> None:
    left, right = pair
    send_frame(left, b"abc", length_size=3, byteorder="little", adjustment=-3, header=b"\x01")
    assert right.recv(100) == b"\x01\x06\x00\x00abc"
    send_frame(left, np.arange(3, dtype="<u2").data, length_size=1)
    assert right.recv(100) == b"\x06\x00\x00\x01\x00\x02\x00"
    left.sendall(b"\xff\x00\x05hello\xff")
    iterator = frames(right, pool, length_size=2, offset=1, strip=2)
    # An 0xFF byte, then the big-endian length 5, of which the second byte stays.
    assert bytes(next(iterator)) == b"\x05hello"


def test_messages_that_came_together_need_no_further_receive(pair: Pair, pool: Pool) -> None:
    left, right = pair
    left.sendall(b"\x01a\x02bc\x00")
    iterator = frames(right, pool, length_size=1)
    assert bytes(next(iterator)) == b"a"
    right.settimeout(SHORT)
    assert [bytes(next(iterator)) for _ in range(2)] == [b"bc", b""]


def test_default_pool_is_used_without_a_pool(pair: Pair) -> None:
    send(pair[0], b"\x03abc")
    before = bytepool.default_pool().stats()
    (message,) = frames(pair[1], length_size=1)
    assert (bytepool.default_pool().stats() - before).outstanding == 1
    assert bytes(message) == b"abc"


def test_iterator_keeps_no_message(pair: Pair, pool: Pool) -> None:
    send(pair[0], b"\x01a\x01b")
    iterator = frames(pair[1], pool, length_size=1)
    for _ in range(2):
        assert len(next(iterator)) == 1
        assert pool.stats().outstanding == 0


def test_end_between_frames_ends_the_iteration(pair: Pair, pool: Pool) -> None:
    send(pair[0], b"\x01a")
    iterator = frames(pair[1], pool, length_size=1)
    assert [bytes(message) for message in iterator] == [b"a"]
    assert list(iterator) == []


@pytest.mark.parametrize("sent", [b"\x00", b"\x00\x03", b"\x00\x03ab", b"\x75\x30" + b"x" * 20_000])
def test_end_inside_a_frame_raises_and_keeps_no_memory(pair: Pair, pool: Pool, sent: bytes) -> None:
    send(pair[0], sent)
    iterator = frames(pair[1], pool, length_size=2)
    with pytest.raises(EOFError, match="the peer closed") as error:
        next(iterator)
    assert error.value.__traceback__
    assert pool.stats().outstanding == 0


def test_message_above_max_size_raises_before_it_allocates(pair: Pair) -> None:
    pool = Pool()
    pair[0].sendall(struct.pack("!Q", 1 << 62))
    with pytest.raises(
        ValueError, match=r"a message of 4611686018427387904 bytes is above max_size"
    ):
        next(frames(pair[1], pool, length_size=8))
    pair[0].sendall(struct.pack("!I", 11))
    with pytest.raises(ValueError, match=r"11 bytes is above max_size \(10 bytes\)"):
        next(frames(pair[1], pool, max_size=10))
    assert pool.stats().peak_outstanding == 0
    left, right = socket.socketpair()
    with left, right:
        left.sendall(struct.pack("!Q", 1 << 62))
        with pytest.raises((OverflowError, MemoryError)):
            next(frames(right, pool, length_size=8, max_size=sys.maxsize))


def test_length_field_that_leaves_less_than_nothing_raises(pair: Pair, pool: Pool) -> None:
    left, right = pair
    left.sendall(b"\x02")
    with pytest.raises(ValueError, match="length field of 2 with adjustment -3 and strip 1 gives"):
        next(frames(right, pool, length_size=1, adjustment=-3))
    left.sendall(b"\x02")
    with pytest.raises(ValueError, match="strip 4 gives a negative size"):
        next(frames(right, pool, length_size=1, strip=4))


@pytest.mark.parametrize(
    ("layout", "error", "text"),
    [
        ({"length_size": 0}, ValueError, "length_size must be 1 to 8 bytes, not 0"),
        ({"length_size": 9}, ValueError, "not 9"),
        ({"length_size": "4"}, TypeError, "str"),
        ({"byteorder": "network"}, ValueError, "byteorder must be 'big' or 'little'"),
        ({"offset": -1}, ValueError, "offset must be 0 or more, not -1"),
        ({"strip": -1}, ValueError, "strip must be 0 or more, not -1"),
        ({"max_size": -1}, ValueError, "max_size must be 0 or more, not -1"),
        ({"adjustment": 1.5}, TypeError, "float"),
    ],
)
def test_bad_layouts_raise_immediately(
    pair: Pair, pool: Pool, layout: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        frames(pair[1], pool, **layout)


def test_non_blocking_socket_raises_immediately(pair: Pair, pool: Pool) -> None:
    pair[1].setblocking(False)
    with pytest.raises(ValueError, match=r"frames\(\) needs a blocking socket"):
        frames(pair[1], pool)


@pytest.mark.parametrize(
    ("size", "layout"), [(256, {"length_size": 1}), (3, {"length_size": 1, "adjustment": 4})]
)
def test_send_frame_raises_for_a_length_that_does_not_fit(
    pair: Pair, size: int, layout: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="does not fit a length field of 1 bytes"):
        send_frame(pair[0], bytes(size), **layout)
    pair[0].close()
    assert pair[1].recv(10) == b"", "nothing was sent"


class TestGoingOnAfterAnError:
    def test_timeout_before_the_body_loses_nothing(self, pair: Pair, pool: Pool) -> None:
        left, right = pair
        right.settimeout(SHORT)
        iterator = frames(right, pool, length_size=2)
        for piece in (b"", b"\x00"):
            left.sendall(piece)
            with pytest.raises(TimeoutError):
                next(iterator)
        left.sendall(b"\x03abc")
        assert bytes(next(iterator)) == b"abc"

    @pytest.mark.parametrize("size", [10, 30_000])
    def test_timeout_inside_the_body_ends_the_iterator(
        self, pair: Pair, pool: Pool, size: int
    ) -> None:
        left, right = pair
        right.settimeout(SHORT)
        left.sendall(struct.pack("!H", size) + b"x" * (size - 1))
        iterator = frames(right, pool, length_size=2)
        with pytest.raises(TimeoutError) as error:
            next(iterator)
        left.sendall(b"x\x00\x01a")
        assert list(iterator) == []
        assert error.value.__traceback__
        assert pool.stats().outstanding == 0
        assert right.gettimeout() == SHORT

    def test_exhausted_budget_loses_nothing(self, pair: Pair) -> None:
        left, right = pair
        pool = budget_pool(1)
        left.sendall(b"\x03abc\x03def")
        iterator = frames(right, pool, length_size=1)
        views = [next(iterator)]
        with pytest.raises(PoolExhaustedError):
            next(iterator)
        views.clear()
        assert bytes(next(iterator)) == b"def"

    def test_budget_timeout_waits_for_the_budget(self, pair: Pair) -> None:
        left, right = pair
        pool = budget_pool(1)
        left.sendall(b"\x03abc")
        views = [pool.view(1)]
        thread = start_thread(lambda: wait_for_waiters(pool, 1), views.clear)
        assert bytes(next(frames(right, pool, length_size=1, budget_timeout=LONG))) == b"abc"
        thread.join()


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"length_size": 1},
        {"byteorder": "little", "adjustment": -4},
        {"length_size": 2, "header": b"\xca\xfe"},
    ],
)
def test_send_frame_sends_what_write_frame_of_streams_writes(
    pair: Pair, layout: dict[str, Any]
) -> None:
    """Each end can be blocking or not."""

    class Writer:
        data = b""

        def write(self, data: bytes) -> None:
            self.data += data

    writer: Any = Writer()
    write_frame(writer, b"abc", **layout)
    send_frame(pair[0], b"abc", **layout)
    assert pair[1].recv(100) == writer.data
