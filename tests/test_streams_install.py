"""``streams.install()``: asyncio's functions and classes are ours for the whole process."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from abc import ABC
from typing import TYPE_CHECKING, Any, Generic, TypeVar, get_type_hints

import pytest

from bytepool import streams

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")
CLASSES = ("StreamReader", "StreamReaderProtocol")


def ours() -> list[bool]:
    """Whether each function is ours, in both modules."""
    return [
        getattr(module, name) is getattr(streams, name)
        for module in (asyncio, asyncio.streams)
        for name in NAMES
    ]


@pytest.fixture(autouse=True)
def nothing_stays_installed() -> Iterator[None]:
    before = [getattr(asyncio, name) for name in NAMES + CLASSES]
    yield
    assert [getattr(asyncio, name) for name in NAMES + CLASSES] == before
    assert [getattr(asyncio.streams, name) for name in CLASSES] == before[-2:]


@pytest.mark.thread_unsafe(reason="it changes asyncio")
class TestInstall:
    def test_context_manager_replaces_the_functions_and_puts_them_back(self) -> None:
        assert not any(ours())
        with streams.install():
            assert all(ours())
        assert not any(ours())

    def test_second_install_changes_nothing(self) -> None:
        with streams.install():
            with streams.install():
                assert all(ours())
            assert all(ours())
        assert not any(ours())

    def test_functions_are_put_back_after_an_error(self) -> None:
        with pytest.raises(ZeroDivisionError), streams.install():
            raise ZeroDivisionError
        assert not any(ours())

    def test_function_that_somebody_replaced_later_stays(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def later() -> None:
            pass

        with monkeypatch.context() as patch:
            patch.setattr(asyncio, "open_connection", asyncio.open_connection)
            with streams.install():
                setattr(asyncio, "open_connection", later)  # noqa: B010
            assert vars(asyncio)["open_connection"] is later
            assert asyncio.start_server is not streams.start_server

    def test_asyncio_code_gets_our_streams(self) -> None:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert isinstance(reader, streams.StreamReader)
            writer.write(await reader.readexactly(3))
            writer.close()

        async def main() -> None:
            server = await asyncio.start_server(echo, "127.0.0.1", 0)
            async with server:
                host, port = server.sockets[0].getsockname()
                reader, writer = await asyncio.open_connection(host, port)
                assert isinstance(reader, streams.StreamReader)
                writer.write(b"abc")
                assert await reader.read() == b"abc"
                writer.close()

        with streams.install():
            asyncio.run(main())


async def received(reader: Any, protocol: Any, payload: bytes) -> bytes:
    """Connect as a library does that builds its own streams, and read what the server sends."""

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(payload)
        writer.close()

    async with await streams.start_server(send, "127.0.0.1", 0) as server:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(
            lambda: protocol, *server.sockets[0].getsockname()
        )
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        content: bytes = await reader.readexactly(len(payload))
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        return content


PAYLOAD = bytes(range(256)) * 2000


@pytest.mark.thread_unsafe(reason="it changes asyncio")
class TestClasses:
    """``asyncio.StreamReader`` and ``StreamReaderProtocol``, which libraries use themselves."""

    def test_streams_that_a_library_builds_receive_in_place(self) -> None:
        async def main() -> None:
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            assert isinstance(reader, streams.StreamReader)
            assert isinstance(protocol, asyncio.BufferedProtocol)
            assert await received(reader, protocol, PAYLOAD) == PAYLOAD

        with streams.install():
            asyncio.run(main())

    def test_subclass_of_the_reader_receives_in_place(self) -> None:
        async def main() -> None:
            class Reader(asyncio.StreamReader):
                def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
                    self.is_over = False
                    super().__init__(loop=loop)

                def feed_eof(self) -> None:
                    self.is_over = True
                    super().feed_eof()

            reader = Reader(loop=asyncio.get_running_loop())
            protocol = asyncio.StreamReaderProtocol(reader)
            assert isinstance(protocol, asyncio.BufferedProtocol)
            assert await received(reader, protocol, PAYLOAD) == PAYLOAD
            assert reader.is_over

        with streams.install():
            asyncio.run(main())

    def test_subclass_with_its_own_feed_data_sees_all_bytes(self) -> None:
        async def main() -> None:
            seen = bytearray()

            class Reader(asyncio.StreamReader):
                def feed_data(self, data: Any) -> None:
                    seen.extend(data)
                    super().feed_data(data)

            reader = Reader()
            protocol = asyncio.StreamReaderProtocol(reader)
            assert await received(reader, protocol, PAYLOAD) == seen == PAYLOAD

        with streams.install():
            asyncio.run(main())

    def test_subclass_of_the_protocol_sees_all_bytes(self) -> None:
        async def main() -> None:
            seen = bytearray()

            class Protocol(asyncio.StreamReaderProtocol):
                def data_received(self, data: bytes) -> None:
                    seen.extend(data)
                    super().data_received(data)

            reader = asyncio.StreamReader()
            protocol = Protocol(reader)
            assert await received(reader, protocol, PAYLOAD) == seen == PAYLOAD
            assert isinstance(protocol, asyncio.StreamReaderProtocol)

        with streams.install():
            asyncio.run(main())

    def test_reader_from_before_keeps_asyncios_protocol(self) -> None:
        async def main() -> None:
            reader = asyncio.StreamReader()
            with streams.install():
                protocol = asyncio.StreamReaderProtocol(reader)
                assert isinstance(reader, asyncio.StreamReader)
                assert await received(reader, protocol, PAYLOAD) == PAYLOAD

        asyncio.run(main())

    def test_streams_of_a_subprocess_stay_asyncios_and_are_instances(self) -> None:
        async def main() -> None:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", "print('x' * 100_000)"), stdout=asyncio.subprocess.PIPE
            )
            assert type(child.stdout) is asyncio.streams.StreamReader
            assert isinstance(child.stdout, asyncio.StreamReader)
            assert len((await child.communicate())[0]) == 100_001

        with streams.install():
            asyncio.run(main())

    def test_our_own_objects_are_instances_and_others_are_not(self) -> None:
        async def main() -> None:
            reader = streams.StreamReader()
            assert isinstance(reader, asyncio.StreamReader)
            assert isinstance(streams.StreamReaderProtocol(reader), asyncio.StreamReaderProtocol)
            assert not isinstance(object(), (asyncio.StreamReader, asyncio.StreamReaderProtocol))

            class Own(asyncio.StreamReader):
                pass

            assert issubclass(Own, asyncio.StreamReader)
            assert isinstance(Own(), Own)
            assert not isinstance(reader, Own)

        with streams.install():
            asyncio.run(main())

    def test_classes_can_be_mixed_annotated_and_pickled(self) -> None:
        item = TypeVar("item")
        with streams.install():

            class Mixed(asyncio.StreamReader, ABC, Generic[item]):
                peer: asyncio.StreamReader | None = None

            assert get_type_hints(Mixed)["peer"] == asyncio.StreamReader | None
            for name in CLASSES:
                kind = getattr(asyncio, name)
                assert pickle.loads(pickle.dumps(kind)) is kind

    def test_pipe_is_read(self) -> None:
        async def main() -> None:
            reading, writing = os.pipe()
            reader = asyncio.StreamReader()
            with os.fdopen(reading, "rb") as end:
                transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                    lambda: asyncio.StreamReaderProtocol(reader), end
                )
                os.write(writing, b"through a pipe")
                os.close(writing)
                assert await reader.read() == b"through a pipe"
                transport.close()

        with streams.install():
            asyncio.run(main())
