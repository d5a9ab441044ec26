"""The two streams that are compared: asyncio's and the pooled one."""

from __future__ import annotations

import array
import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

from bytepool import streams

if TYPE_CHECKING:
    import bytepool

LOOP = asyncio.new_event_loop()


class Transport(asyncio.Transport):
    """A transport that records whether reading is paused and whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = self.closing = False

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True


class GreedyTransport(Transport):
    """A transport that looks like one of uvloop's, which read without pause."""

    __module__ = "uvloop.loop"


class Exporter:
    """A Python class that exports a buffer and runs the collector while it does so."""

    def __init__(self, target: Any) -> None:
        self.target = target

    def __buffer__(self, _: int) -> memoryview:
        gc.collect(0)
        return memoryview(self.target)

    def __release_buffer__(self, view: memoryview) -> None:
        gc.collect(0)
        view.release()


class AsyncioSide:
    """The stream of asyncio."""

    def __init__(self, limit: int) -> None:
        self.reader = asyncio.StreamReader(limit, LOOP)
        self.protocol: Any = asyncio.StreamReaderProtocol(self.reader, loop=LOOP)
        self.task: asyncio.Task[Any] | None = None

    def waits(self) -> bool:
        """Return whether a read is pending."""
        return self.task is not None and not self.task.done()

    def put(self, data: bytes) -> None:
        self.protocol.data_received(data)

    async def read(self, name: str, argument: Any) -> Any:
        if name == "readinto" and argument == 0:
            return b""  # needs no data
        name = {"readview": "readexactly", "readinto": "readexactly"}.get(name, name)
        return await getattr(self.reader, name)(*([] if argument is None else [argument]))


class PooledSide(AsyncioSide):
    """The pooled stream, and the views that it returned."""

    def __init__(self, limit: int, pool: bytepool.Pool, ahead: int) -> None:
        self.reader, self.protocol = streams._pair(limit, LOOP, pool)
        self.reader._ahead = ahead
        self.task = None
        self.views: list[tuple[memoryview, bytes]] = []

    def put(self, data: bytes) -> None:
        while data:
            buffer = self.protocol.get_buffer(-1)
            fitting = data[: len(buffer)]
            assert fitting, "event loops reject an empty buffer"
            buffer[: len(fitting)] = fitting
            self.protocol.buffer_updated(len(fitting))
            data = data[len(fitting) :]

    async def read(self, name: str, argument: Any) -> Any:
        assert isinstance(self.reader, streams.StreamReader)
        if name == "readview":
            view = await self.reader.readview(argument)
            assert (view.format, view.ndim, view.readonly) == ("B", 1, False)
            self.views = [*self.views[-3:], (view, bytes(view))]
            return bytes(view)
        if name == "readinto":
            target: Any = bytearray(argument)
            if argument % 2 == 0:
                target = array.array("H", target)
            # Before CPython 3.12, Python classes cannot export a buffer.
            hostile = argument % 3 == 0 and sys.version_info >= (3, 12)
            assert await self.reader.readinto(Exporter(target) if hostile else target) == argument
            return bytes(target)
        return await super().read(name, argument)


def answer(task: asyncio.Task[Any]) -> object:
    """Return the part of a result that both sides must agree on."""
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is None:
        return task.result()
    details = [getattr(error, name, None) for name in ("partial", "expected", "consumed")]
    text = "" if isinstance(error, RuntimeError) else str(error)  # the message names the method
    return type(error), text, details
