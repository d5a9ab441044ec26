"""Arbitrary chunks, reads, cancellations and disconnects, on a pooled stream and on asyncio's own.

Both see the same, at the same turn of the event loop, and must answer the same. What pooled reads
(``readview``, ``readinto``) give is what ``readexactly`` gives, and ``frames`` is compared with a
plain parser. At the end no pooled bytes are out.
"""

from __future__ import annotations

import contextlib
import random
import sys
import warnings
from typing import Any

import bytepool
from bytepool.streams._reader import LIMIT
from fuzz import frames
from fuzz.loop import LOOP, Task
from fuzz.reader import Reader
from fuzz.sides import (
    BUFFERED,
    FED,
    KEPT,
    SCATTERED,
    TLS,
    AsyncioSide,
    GreedyTransport,
    PooledSide,
    Transport,
    UnpausableTransport,
    answer,
)

# Different everywhere, with line ends and separators in it.
DATA = bytes(random.Random(1).choices([*b"ab\n" * 40, *range(256)], k=1 << 20)) * 4
HUGE = [2**47, 2**62, 2**63, 2**200]
SEPARATORS: list[Any] = [b"\n", b"ab", bytearray(b"b"), b"aab", b"", memoryview(b"\n\n")]
if sys.version_info >= (3, 13):
    SEPARATORS += [(b"aab", b"b"), (b"\n",), (b"ab", b"abab", b"a\n"), (), (b"", b"a")]
BUDGET = 1 << 16
LARGE_BUDGET = 1 << 20
READS = [
    *("readview", "readinto", "readexactly", "readexactly", "read", "read", "readline"),
    *("readuntil", "__anext__", "frame"),
]
WAYS = [BUFFERED, BUFFERED, SCATTERED, KEPT, TLS, FED]
warnings.filterwarnings("ignore", "a read of .* waits for the budget", RuntimeWarning)
TRANSPORTS = [Transport, Transport, GreedyTransport, UnpausableTransport]


class Run:
    """One input: both sides, and what has come so far."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        # With large messages, the sizes at which the reader changes its ways are its own.
        self.is_large = read.below(16) == 15
        budget = LARGE_BUDGET if self.is_large else BUDGET
        self.budget = read.pick([None, None, budget])
        self.pool = bytepool.Pool(64, budget, 2, max_bytes=self.budget)
        self.held: memoryview | None = None
        way = read.pick(WAYS)
        if self.is_large:
            self.limit, self.most = LIMIT, 1 << 20
            ahead = in_place = 0
        else:
            self.limit = read.pick([5, 64, 1000, LIMIT])
            ahead = read.pick([1, 3, 64, 4096, 1 << 14])
            # Many small pieces, as asyncio's limit or our read-ahead make them, take long.
            self.most = 50 if ahead < 64 else 2000 if self.limit <= 1000 else BUDGET
            in_place = read.pick([LIMIT, 1, 8, 64, 500])
        self.ours = PooledSide(self.limit, self.pool, ahead, in_place, way)
        self.theirs = AsyncioSide(self.limit)
        self.sides = [self.ours, self.theirs]
        transport = read.pick(TRANSPORTS)
        for side in self.sides:
            side.protocol.connection_made(transport(with_tls=way == TLS))
        framed = frames.LARGE if self.is_large else frames.SMALL
        self.layout = read.pick(tuple(framed))
        self.data = framed[self.layout] if read.below(2) else DATA
        self.put = 0
        self.name: str = ""
        self.argument: Any = None
        self.exposed: list[bytearray] = []
        self.eof = self.lost = self.edited = self.nobody_reads = False

    def main(self) -> None:
        for _ in range(80):
            if not self.read:
                break
            self.step(self.read.below(16))
        if not (self.eof or self.lost):
            self.end(eof=True)
        self.settle()
        self.begin("read", -1)
        self.settle()
        assert self.ours.task is None, "a read that waits for ever"
        self.ours.check_results()
        self.free()
        assert self.ours.reader._exception or not self.ours.reader._has_memory
        assert self.pool.stats().outstanding == 0

    def step(self, kind: int) -> None:
        waits = any(side.waits() for side in self.sides)
        if kind < 5:
            self.deliver()
        elif kind < 9:
            self.settle_unless_both_wait()
            if self.ours.task is None:
                self.begin(*self.any_read())
            else:
                self.begin_second(*self.any_read())
        elif kind < 11:
            self.turn()
        elif kind == 11:
            self.settle()
        elif kind == 12 and waits:
            self.stop()
        elif kind == 13 and self.budget and not waits:
            self.settle()
            with contextlib.suppress(bytepool.PoolExhaustedError):  # a cancelled read keeps some
                self.held = self.pool.view(self.budget)
        elif kind == 14:
            self.look()
        elif kind == 15 and not waits:
            self.settle()
            self.refused()
        elif kind == 12 and self.read.below(3) == 0:
            self.settle_unless_both_wait()
            self.end(eof=self.read.below(2) == 0)

    # What can happen.

    def deliver(self) -> None:
        data: Any = self.data[self.put : self.put + self.size()]
        if self.lost:
            return
        if self.eof:
            for side in self.sides:
                raises(AssertionError, side.put, data)
            return
        self.put += len(data)
        if len(data) % 8 == 7:
            data = memoryview(bytearray(data))
        for side in self.sides:
            side.put(data)
        self.nobody_reads = bool(data) and self.ours.task is None

    def begin(self, name: str, argument: Any) -> None:
        self.name, self.argument = name, argument
        self.nobody_reads = False
        for side in self.sides:
            side.task = Task(side.start(name, argument))

    def begin_second(self, name: str, argument: Any) -> None:
        """Read while another read waits, which is refused unless enough has come already."""
        self.settle()
        if not all(side.waits() for side in self.sides):
            return
        # asyncio's takes the bytes that the first read waits for, and then loses them.
        if (name, argument) == ("read", -1) or self.ours.reader._progress is not None:
            return
        if self.name == "frame":
            return  # a second read may take the header that the first one has seen
        if name in ("readview", "readinto") or name == "frame":
            name, argument = "readexactly", 1 + self.size()
        answers = []
        for side in self.sides:
            first, side.task = side.task, Task(side.start(name, argument))
            side.task.step()
            assert side.task.is_done, "two reads wait at a time"
            answers.append(answer(side, name, argument))
            side.task = first
        assert answers[0] == answers[1], answers

    def stop(self) -> None:
        """Cancel or close a read. It loses nothing, even if all came before the task could run."""
        is_closed = self.read.below(4) == 0
        # asyncio's own loses what a read to the end has taken so far.
        to_the_end = (self.name, self.argument) == ("read", -1)
        if to_the_end or not all(side.waits() for side in self.sides):
            self.settle()
            return
        for side in self.sides:
            assert side.task is not None
            if is_closed:
                side.task.close()
            else:
                side.task.cancel()
        if is_closed and all(not side.waits() for side in self.sides):
            self.ours.task = self.theirs.task = None
        self.settle()

    def look(self) -> None:
        """Compare what readers tell of themselves, and change their buffer as libraries do."""
        ours, theirs = (side.reader for side in self.sides)
        self.settle_unless_both_wait()
        # asyncio's read to the end takes the bytes before it returns them, and our reader drops
        # what a cancelled read left in pooled memory when the connection breaks.
        is_same = self.ours.task is None or (self.name, self.argument) != ("read", -1)
        if is_same and ours.exception() is None:
            assert ours.at_eof() == theirs.at_eof()
        assert type(ours.exception()) is type(theirs.exception())
        kind = self.read.below(8)
        if kind == 0 and self.ours.way != FED and not self.eof:
            self.ours.protocol.get_buffer(-1)  # and nothing is received
        elif kind == 1:
            self.settle()
            if self.ours.task is None:
                self.exposed = [] if self.exposed else [ours._buffer, theirs._buffer]
                self.settle()
        elif kind == 2 and self.exposed and self.ours.task is None:
            n = self.read.number()
            self.edited = True
            for buffer in self.exposed:
                del buffer[:n]
            self.settle()
        elif kind == 3 and self.eof:
            for side in self.sides:
                side.reader.feed_eof()

    def refused(self) -> None:
        """Refuse at once what makes no sense, and take nothing from the stream."""
        reader: Any = self.ours.reader
        if reader._exception is not None:
            return
        fixed = memoryview(bytearray(8))[:: self.read.pick([-1, 2])]
        raises(ValueError, run, reader.readview(-1 - self.read.number()))
        raises(ValueError, run, reader.readview(10, max_size=self.read.below(10)))
        raises(TypeError, run, reader.readview(self.read.pick([1.5, None, "1"])))
        raises(TypeError, run, reader.readinto(self.read.pick([b"1", "1", None, 1, fixed])))
        if not (reader._eof and self.budget):  # then the end of the stream is what is raised
            wanted = reader.readview(self.read.pick(HUGE))
            raises((MemoryError, OverflowError), run, wanted)

    def end(self, *, eof: bool) -> None:
        """End the stream, and then or at once the connection."""
        if eof and not self.eof and not self.lost:
            assert self.ours.protocol.eof_received() == self.theirs.protocol.eof_received()
            self.eof = True
        elif not self.lost:
            is_broken = self.read.below(2) == 0
            if is_broken:
                # asyncio's reader waits for ever if this comes between data and its waking up.
                self.settle()
            for side in self.sides:
                side.protocol.connection_lost(ConnectionResetError("reset") if is_broken else None)
            self.lost = True
            self.eof |= not is_broken

    # What helps.

    def size(self) -> int:
        kind = self.read.below(8)
        if self.is_large and kind >= 4:
            return self.read.number(2) * (1 if kind < 6 else 9) + kind
        if kind < 6:
            return self.read.number() % self.most
        return self.read.number(2) % self.most

    def any_read(self) -> tuple[str, Any]:
        name = self.read.pick(READS)
        if self.data is not DATA and self.read.below(2):
            name = "frame"
        if name in ("readline", "__anext__"):
            return name, None
        if name == "readuntil":
            return name, self.read.pick(SEPARATORS)
        if name == "frame":
            decision = self.read.below(8)
            return name, (self.layout, decision % 2 == 0, decision < 2)
        size = self.size()
        if size == 0 and name in ("read", "readexactly"):
            return name, self.read.pick([-1, 0]) if name == "read" else self.read.pick([0, -1])
        return name, size

    def free(self) -> None:
        """Let go of what takes of the budget."""
        self.held = None
        for view, content in self.ours.views:
            assert view == content, "a view has changed"
        self.ours.views.clear()
        self.ours.kept.clear()  # a view that a transport keeps takes of the budget, too

    def turn(self) -> bool:
        """Run what is ready, once."""
        ran = [LOOP.run_callbacks()]
        ran += [side.task.step() for side in self.sides if side.task is not None]
        return any(ran)

    def settle_unless_both_wait(self) -> None:
        """The pooled one may wait for the budget longer than the other for bytes."""
        if self.ours.task is not None and not all(side.waits() for side in self.sides):
            self.settle()

    def settle(self) -> None:
        """Run until both wait for more, or both have the same answer."""
        if self.budget:
            self.free()
        while self.turn():
            pass
        ours, theirs = (side.task for side in self.sides)
        if ours is not None and theirs is not None:
            assert ours.is_done == theirs.is_done, f"{self.name}: one has an answer, one waits"
            if ours.is_done:
                answers = [answer(side, self.name, self.argument) for side in self.sides]
                assert answers[0] == answers[1], (self.name, self.argument)
                self.ours.task = self.theirs.task = None
        self.check_state()

    def check_state(self) -> None:
        """Check what holds when nothing is ready to run."""
        reader, transport = self.ours.reader, self.ours.reader._transport
        is_held_back = transport is not None and transport.paused
        if self.ours.task is not None:
            assert not is_held_back, "a read waits for a peer that is held back"
            return
        if reader._exception is not None:
            return
        unread = reader._unread
        assert unread == len(self.theirs.reader._buffer)
        if unread > 2 * self.limit and transport and self.nobody_reads and not self.eof:
            assert is_held_back, "too much is read ahead"
        if unread <= self.limit and not (self.eof or self.edited):
            assert not is_held_back, "the peer is held back for nothing"
        if self.exposed:
            assert self.exposed[0] == self.exposed[1]


def raises(kind: Any, function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except kind:
        return
    assert kind == (), f"{function} {arguments} was not refused"


def run(coroutine: Any) -> None:
    """Run a read that must not wait."""
    task = Task(coroutine)
    task.step()
    assert task.is_done
    if task.error is not None:
        raise task.error


def one(data: bytes) -> None:
    """Do what the input says."""
    Run(Reader(data)).main()
