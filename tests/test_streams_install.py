"""``streams.install()``: asyncio's functions are ours for the whole process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bytepool import streams

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMES = ("open_connection", "start_server", "open_unix_connection", "start_unix_server")


def ours() -> list[bool]:
    """Whether each function is ours, in both modules."""
    return [
        getattr(module, name) is getattr(streams, name)
        for module in (asyncio, asyncio.streams)
        for name in NAMES
    ]


@pytest.fixture(autouse=True)
def nothing_stays_installed() -> Iterator[None]:
    before = [getattr(asyncio, name) for name in NAMES]
    yield
    assert [getattr(asyncio, name) for name in NAMES] == before


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
