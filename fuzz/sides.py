"""The two streams that are compared: asyncio's and the pooled one."""

from __future__ import annotations

import array
import asyncio
import gc
import sys
from typing import TYPE_CHECKING, Any

from bytepool import streams
from fuzz.frames import read_frame
from fuzz.loop import LOOP, Task

if TYPE_CHECKING:
    import bytepool

# Ways in which transports receive.
BUFFERED, SCATTERED, KEPT, TLS, FED = range(5)


class Transport(asyncio.Transport):
    """A transport that records whether reading is paused and whether it was closed."""

    def __init__(self, *, with_tls: bool = False) -> None:
        super().__init__({"sslcontext": True} if with_tls else {})
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


class UnpausableTransport(Transport):
    """A transport that cannot hold the peer back."""

    def pause_reading(self) -> None:
        raise NotImplementedError


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


async def nothing() -> bytes:
    return b""


class AsyncioSide:
    """The stream of asyncio."""

    def __init__(self, limit: int) -> None:
        self.reader: Any = asyncio.StreamReader(limit, LOOP)
        self.protocol: Any = asyncio.StreamReaderProtocol(self.reader, loop=LOOP)
        self.task: Task | None = None

    def waits(self) -> bool:
        """Return whether a read is pending."""
        return self.task is not None and not self.task.is_done

    def put(self, data: Any) -> None:
        self.protocol.data_received(data)

    def start(self, name: str, argument: Any) -> Any:
        """Return the coroutine of a read."""
        if name == "frame":
            return read_frame(self.reader, argument[0])
        if name == "readinto" and argument == 0:
            return nothing()  # needs no stream
        name = {"readview": "readexactly", "readinto": "readexactly"}.get(name, name)
        return getattr(self.reader, name)(*([] if argument is None else [argument]))

    def result(self, name: str, argument: Any, result: Any) -> Any:
        """Return the result of a read as bytes."""
        del name, argument
        return result

    def partial(self, name: str, argument: Any, error: BaseException) -> Any:
        """Return what an IncompleteReadError carries, or what ours carries of that."""
        partial = getattr(error, "partial", None)
        is_pooled = name == "readview" or (name == "frame" and not argument[1])
        return partial[: self.reader._limit] if partial and is_pooled else partial


class PooledSide(AsyncioSide):
    """The pooled stream, and what it returned."""

    def __init__(
        self, limit: int, pool: bytepool.Pool | None, ahead: int, in_place: int, way: int
    ) -> None:
        self.reader, self.protocol = streams._pair(limit, LOOP, pool)
        if ahead:
            self.reader._ahead = ahead
        if in_place:
            self.reader._in_place = in_place
        self.way = way
        self.task = None
        self.target: Any = None
        self.frames: dict[Any, Any] = {}
        self.views: list[tuple[memoryview, bytes]] = []
        self.results: list[tuple[bytes, bytearray]] = []
        self.kept: list[memoryview] = []

    def put(self, data: Any) -> None:
        if self.way == FED or self.reader._eof:
            self.protocol.data_received(data)
            return
        if self.way == TLS and data:
            # What was decrypted has to fit, and is copied in pieces.
            buffer = self.protocol.get_buffer(len(data))
            assert len(buffer) >= len(data), "decrypted bytes do not fit"
            for at in range(0, len(data), 1 << 14):
                piece = data[at : at + (1 << 14)]
                buffer[at:][: len(piece)] = piece
            del buffer
            self.protocol.buffer_updated(len(data))
            return
        most = 7 if self.way == SCATTERED and len(data) < 300 else len(data)
        while data:
            buffer = self.protocol.get_buffer(-1)
            fitting = data[: min(len(buffer), most)]
            assert fitting, "event loops reject an empty buffer"
            buffer[: len(fitting)] = fitting
            if self.way == KEPT:
                self.kept = [*self.kept[-7:], buffer]
            del buffer
            self.protocol.buffer_updated(len(fitting))
            data = data[len(fitting) :]

    def start(self, name: str, argument: Any) -> Any:
        reader = self.reader
        if name == "frame":
            layout, as_bytes, is_new = argument
            if is_new or argument not in self.frames:
                self.frames[argument] = reader.frames(**layout._asdict(), as_bytes=as_bytes)
            return self.frames[argument].__anext__()
        if name == "readinto":
            self.target = bytearray(argument)
            if argument % 2 == 0:
                self.target = array.array("H", self.target)
            # Before CPython 3.12, Python classes cannot export a buffer.
            hostile = argument % 3 == 0 and sys.version_info >= (3, 12)
            return reader.readinto(Exporter(self.target) if hostile else self.target)
        return getattr(reader, name)(*([] if argument is None else [argument]))

    def result(self, name: str, argument: Any, result: Any) -> Any:
        if name == "readinto":
            assert result == argument
            result, self.target = bytes(self.target), None
        elif name == "readview" or (name == "frame" and not argument[1]):
            assert (result.format, result.ndim, result.readonly) == ("B", 1, False)
            content = bytes(result)
            self.views = [*self.views[-3:], (result, content)]
            return content
        if name != "readinto":
            self.results.append((result, bytearray(result)))
        return result

    def partial(self, name: str, argument: Any, error: BaseException) -> Any:
        partial = super().partial(name, argument, error)
        if name == "readinto" and partial is not None:
            # All that came is in the buffer, and the error carries its start.
            came = bytes(self.target)[: int(str(error).split()[0])]
            assert partial == came[: self.reader._limit]
            return came
        return partial

    def check_results(self) -> None:
        """Write into all memory that transports kept: no ``bytes`` may change."""
        for view, content in self.views:
            assert view == content, "a view has changed"
        self.views.clear()  # they share the memory
        for buffer in self.kept:
            buffer[:] = b"\xee" * len(buffer)
        self.kept.clear()
        for result, copy in self.results:
            assert result == copy, "bytes have changed"


def answer(side: AsyncioSide, name: str, argument: Any) -> object:
    """Return the part of a result that both sides must agree on."""
    task = side.task
    assert task is not None
    error = task.error
    if error is None:
        return side.result(name, argument, task.result)
    if isinstance(error, RuntimeError) or (name == "frame" and type(error) is ValueError):
        return type(error)  # the message names the method, or the parameters
    details = [getattr(error, detail, None) for detail in ("expected", "consumed")]
    return type(error), str(error), side.partial(name, argument, error), details
