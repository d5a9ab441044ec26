"""What a broken connection raises, and that it keeps no message."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Any

import pytest
from helpers import without_collector
from streams_helpers import run_fixture

from bytepool import Pool, streams

if TYPE_CHECKING:
    from collections.abc import Callable

run = run_fixture()


@pytest.mark.parametrize("how", ["readexactly", "readview", "readline", "drain", "wait_closed"])
@pytest.mark.parametrize("caught", [True, False], ids=["caught", "not caught"])
def test_a_connection_that_breaks_leaves_no_message_out(how: str, caught: bool) -> None:
    """Its error holds the handler's frame, by its traceback, and that the message."""
    pool = Pool()
    errors: list[str] = []

    async def handler(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
        message = await reader.readview(100_000)
        try:
            match how:
                case "drain":
                    while True:
                        writer.write(bytes(1 << 20))
                        await writer.drain()
                case "wait_closed":
                    await writer.wait_closed()
                case "readline":
                    await reader.readline()
                case _:
                    await getattr(reader, how)(len(message))
        except ConnectionError as error:
            errors.append(type(error).__name__)
            if not caught:
                raise
        finally:
            writer.close()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        server = await streams.start_server(handler, "127.0.0.1", 0, pool=pool)
        with socket.socket() as client:
            client.setblocking(False)
            await loop.sock_connect(client, server.sockets[0].getsockname())
            await loop.sock_sendall(client, bytes(100_000))
            await asyncio.sleep(0.1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await asyncio.sleep(0.1)
        assert errors
        assert pool.stats().outstanding == 0
        server.close()

    with without_collector():
        asyncio.run(main())


def test_drain_after_the_reader_has_broken_leaves_no_message_out() -> None:
    pool = Pool()

    class Transport(asyncio.Transport):
        def is_closing(self) -> bool:
            return True

    async def handler(reader: streams.StreamReader, writer: streams.StreamWriter) -> None:
        message = pool.view(1000)
        with pytest.raises(ConnectionResetError, match="gone"):
            await writer.drain()
        del reader, writer
        assert len(message) == 1000

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reader = streams.StreamReader()
        protocol: Any = streams.StreamReaderProtocol(reader)
        reader.set_exception(ConnectionResetError("gone"))
        await handler(reader, streams.StreamWriter(Transport(), protocol, reader, loop))
        assert pool.stats().outstanding == 0

    with without_collector():
        asyncio.run(main())


class CustomError(OSError):
    """Its ``__init__`` cannot be run again with what ``args`` has."""

    __slots__ = ("slot",)

    def __init__(self, name: str, *, detail: int) -> None:
        super().__init__(errno.EIO, f"custom: {name}", "file")
        self.detail = detail
        self.slot = "of a slot"


def custom() -> CustomError:
    error = CustomError("text", detail=5)
    error.__cause__ = KeyError("cause")
    error.add_note("a note")
    return error


ERRORS: dict[str, Callable[[], Exception]] = {
    "custom": custom,
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "ssl": lambda: ssl.SSLError(1, "[SSL] bad"),
    "incomplete": lambda: asyncio.IncompleteReadError(b"part", 10),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "reason"),
    "import": lambda: ImportError("text", name="name", path="path"),
    "plain": lambda: ValueError("a", 2),
    "empty": lambda: TimeoutError(),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_that_was_set_is_raised_as_asyncio_raises_it(name: str) -> None:
    async def raised_by(reader: asyncio.StreamReader) -> Exception:
        reader.set_exception(ERRORS[name]())
        with pytest.raises(Exception) as raised:  # noqa: PT011
            await reader.readexactly(1)
        return raised.value

    async def main() -> None:
        ours = await raised_by(streams.StreamReader())
        theirs = await raised_by(asyncio.StreamReader())
        assert type(ours) is type(theirs)
        assert (str(ours), ours.args) == (str(theirs), theirs.args)
        assert vars(ours) == vars(theirs)
        assert repr(ours.__cause__) == repr(theirs.__cause__)
        assert ours.__suppress_context__ == theirs.__suppress_context__
        for attribute in ("errno", "strerror", "filename", "detail", "slot", "partial", "object"):
            mine, asyncios = (getattr(error, attribute, None) for error in (ours, theirs))
            assert mine == asyncios

    asyncio.run(main())


def test_exception_returns_the_object_that_was_set() -> None:
    async def main() -> None:
        reader, error = streams.StreamReader(), ValueError("it")
        assert reader.exception() is None
        reader.set_exception(error)
        assert reader.exception() is error

    asyncio.run(main())


def test_error_of_a_plain_callback_is_reported_and_closes_the_connection(run: Any) -> None:
    """As in CPython 3.14. Before, asyncio's streams leave the connection open."""

    def refuse(_reader: streams.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise ZeroDivisionError("mine")

    async def main() -> None:
        reported: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reported.append(context))
        server = await streams.start_server(refuse, "127.0.0.1", 0)
        async with server:
            reader, writer = await streams.open_connection(*server.sockets[0].getsockname())
            assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()
            await writer.wait_closed()
        (context,) = reported
        assert context["message"] == "Unhandled exception in client_connected_cb"
        assert str(context["exception"]) == "mine"

    run(main())
