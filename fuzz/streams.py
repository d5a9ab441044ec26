"""Arbitrary chunks, reads, cancellations and disconnects, on a pooled stream and on asyncio's own.

Both see the same, at the same turn of the event loop, and must answer the same. What pooled reads
(``readview``, ``readinto``) give is what ``readexactly`` gives. At the end no pooled bytes are out.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import bytepool
from bytepool.streams._reader import LIMIT
from fuzz.reader import Reader
from fuzz.sides import LOOP, AsyncioSide, GreedyTransport, PooledSide, Transport, answer

# Different everywhere, with line ends and separators in it.
DATA = bytes(random.Random(1).choices([*b"ab\n" * 40, *range(256)], k=1 << 20))
HUGE = [2**47, 2**62, 2**63, 2**200]
SEPARATORS = [b"\n", b"ab", b"b", b"aab", b""]
BUDGET = 1 << 16


class Run:
    """One input: both sides, and what has come so far."""

    def __init__(self, read: Reader) -> None:
        self.read = read
        self.budget = read.pick([None, None, BUDGET])
        self.pool = bytepool.Pool(64, BUDGET, 2, max_bytes=self.budget)
        self.held: memoryview | None = None
        self.limit = limit = read.pick([5, 64, 1000, LIMIT])
        self.ours = PooledSide(limit, self.pool, read.pick([1, 3, 64, 4096, 1 << 14]))
        self.theirs = AsyncioSide(limit)
        self.sides = [self.ours, self.theirs]
        greedy = read.below(4) == 0
        for side in self.sides:
            side.protocol.connection_made(GreedyTransport() if greedy else Transport())
        self.put = 0
        self.pooled = self.to_the_end = self.eof = self.lost = False

    async def main(self) -> None:
        for _ in range(80):
            if not self.read:
                break
            await self.step(self.read.below(12))
        if not (self.eof or self.lost):
            await self.end(eof=True)
        await self.settle()
        self.begin("read", -1)
        await self.settle()
        assert self.ours.task is None, "a read that waits for ever"
        self.free()

    async def step(self, kind: int) -> None:
        waits = any(side.waits() for side in self.sides)
        if kind < 3 and not self.eof:
            self.deliver()
        elif kind < 6:
            await self.settle_unless_both_wait()
            if self.ours.task is None:
                self.begin(*self.any_read())
            elif not self.pooled:
                await self.begin_second(*self.any_read())
        elif kind == 6:
            await self.turns(1 + self.read.below(3))
        elif kind == 7 and self.budget and not waits:
            await self.settle()
            self.held = self.pool.view(BUDGET)
        elif kind == 8 and waits:
            await self.cancel()
        elif kind == 9 and not waits:
            await self.settle()
            await self.refused()
        elif kind == 10 and self.read.below(4) == 0:
            await self.settle_unless_both_wait()
            await self.end(self.read.below(2) == 0)

    # What can happen.

    def deliver(self) -> None:
        data = DATA[self.put : self.put + self.size()]
        self.put += len(data)
        for side in self.sides:
            side.put(data)

    def begin(self, name: str, argument: Any) -> None:
        self.pooled = name in ("readview", "readinto")
        self.to_the_end = (name, argument) == ("read", -1)
        for side in self.sides:
            side.task = LOOP.create_task(side.read(name, argument))

    async def begin_second(self, name: str, argument: Any) -> None:
        """While another one waits, which is refused unless there is enough already."""
        await self.turns(4)
        if not all(side.waits() for side in self.sides):
            return
        if self.budget:
            self.free()
        if (name, argument) == ("read", -1):
            return  # asyncio's takes the bytes that the first one waits for, and then loses them
        seconds = [LOOP.create_task(side.read(name, argument)) for side in self.sides]
        await self.turns(2)
        for second in seconds:
            assert second.done(), "two wait at a time"
        assert answer(seconds[0]) == answer(seconds[1])

    async def cancel(self) -> None:
        """Nothing is lost by it, even if all has come and the task has not run yet."""
        # asyncio's own loses what a read to the end has taken so far.
        if self.to_the_end or not all(side.waits() for side in self.sides):
            await self.settle()
            return
        for side in self.sides:
            assert side.task is not None
            side.task.cancel()
        await self.settle()

    async def refused(self) -> None:
        """What makes no sense is refused at once, and takes nothing from the stream."""
        reader: Any = self.ours.reader
        if reader._exception is not None:
            return
        fixed = memoryview(bytearray(8))[:: self.read.pick([-1, 2])]
        await raises(ValueError, reader.readview(-1 - self.read.number()))
        await raises(ValueError, reader.readview(10, max_size=self.read.below(10)))
        await raises(TypeError, reader.readview(self.read.pick([1.5, None, "1"])))
        await raises(TypeError, reader.readinto(self.read.pick([b"1", "1", None, 1, fixed])))
        if not (reader._eof and self.budget):  # then the end of the stream is what is raised
            await raises((MemoryError, OverflowError), reader.readview(self.read.pick(HUGE)))

    async def end(self, eof: bool) -> None:
        """The end of the stream, and then or at once that of the connection."""
        if eof and not self.eof and not self.lost:
            assert self.ours.protocol.eof_received() == self.theirs.protocol.eof_received()
            self.eof = True
        elif not self.lost:
            broken = self.read.below(2) == 0
            if broken:
                # asyncio's reader waits for ever if this comes between data and its waking up.
                await self.turns(4)
                await self.settle_unless_both_wait()
            for side in self.sides:
                side.protocol.connection_lost(ConnectionResetError("reset") if broken else None)
            self.lost = True

    # What helps.

    def size(self) -> int:
        kind = self.read.below(8)
        if kind < 6:
            return self.read.number()
        # asyncio reads to the end in pieces as large as the limit, which must not take for ever.
        return self.read.number(2) % (BUDGET if self.limit > 1000 else 2000)

    def any_read(self) -> tuple[str, Any]:
        name = self.read.pick(
            ["readview", "readview", "readinto", "readexactly", "read", "readline", "readuntil"]
        )
        if name == "readline":
            return name, None
        if name == "readuntil":
            return name, self.read.pick(SEPARATORS)
        size = self.size()
        return name, -1 if size == 0 and name == "read" else size

    def free(self) -> None:
        """Let go of what takes of the budget."""
        self.held = None
        for view, content in self.ours.views:
            assert view == content, "a view has changed"
        self.ours.views.clear()

    async def turns(self, n: int) -> None:
        for _ in range(n):
            await asyncio.sleep(0)

    async def settle_unless_both_wait(self) -> None:
        """The pooled one may wait for the budget longer than the other for bytes."""
        if self.ours.task is not None and not all(side.waits() for side in self.sides):
            await self.settle()

    async def settle(self) -> None:
        """Both wait for more, or both have the same answer."""
        if self.budget:
            self.free()
        await self.turns(8)
        ours, theirs = (side.task for side in self.sides)
        if ours is None or theirs is None:
            return
        assert ours.done() == theirs.done(), "one has an answer, and the other waits"
        if ours.done():
            assert answer(ours) == answer(theirs)
            self.ours.task = self.theirs.task = None


async def raises(kind: type[Exception] | tuple[type[Exception], ...], read: Any) -> None:
    try:
        await read
    except kind:
        return
    raise AssertionError(f"{read} was not refused")


def one(data: bytes) -> None:
    """Do what the input says."""
    run = Run(Reader(data))
    LOOP.run_until_complete(run.main())
    assert run.pool.stats().outstanding == 0
