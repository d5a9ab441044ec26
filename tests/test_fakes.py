"""Stand-ins for a pool in users' tests, as docs/testing.md describes them."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING
from unittest import mock

import pytest

from bytepool import Allocator, Pool, PoolExhaustedError, streams
from bytepool.tracking import AllocationRecord

if TYPE_CHECKING:
    from collections.abc import Callable

FAKES: dict[str, Callable[[], mock.MagicMock]] = {
    "spec": lambda: mock.MagicMock(spec=Pool()),
    "wraps": lambda: mock.MagicMock(wraps=(pool := Pool()), spec=pool),
    "autospec": lambda: mock.create_autospec(Pool, instance=True),
}


@pytest.mark.parametrize("sealed", [Pool, Allocator])
def test_sealed_classes_refuse_subclasses(sealed: type) -> None:
    with pytest.raises(TypeError, match="is not an acceptable base type"):
        type("Own", (sealed,), {})


def test_methods_of_a_pool_cannot_be_replaced() -> None:
    pool = Pool()
    for name in ("view", "allocate", "stats", "max_size"):
        with pytest.raises(AttributeError), mock.patch.object(pool, name):
            pass
    assert len(pool.view(1)) == 1


@pytest.mark.parametrize("fake", FAKES.values(), ids=FAKES)
def test_fake_has_the_names_of_a_pool_and_no_others(fake: Callable[[], mock.MagicMock]) -> None:
    pool = fake()
    assert isinstance(pool, Pool)
    for name in vars(Pool):
        if not name.startswith("_"):
            assert hasattr(pool, name)
    assert not hasattr(pool, "alocate")
    pool.view.side_effect = PoolExhaustedError
    with pytest.raises(PoolExhaustedError):
        pool.view(100)


def test_every_public_method_has_a_signature_for_mocks_and_ides() -> None:
    for thing in (Pool, Allocator, AllocationRecord):
        for name, method in vars(thing).items():
            if not name.startswith("_") and callable(method):
                assert inspect.signature(method), f"{thing.__name__}.{name}"


def test_streams_accept_a_fake_that_wraps_a_pool() -> None:
    pool = Pool()
    fake = mock.MagicMock(wraps=pool, spec=pool)

    async def serve() -> bytes:
        async def handle(reader: streams.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readview(5))
            writer.close()

        server = await streams.start_server(handle, "127.0.0.1", 0, pool=fake)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await streams.open_connection(*address)
            writer.write(b"hello")
            received = await reader.read()
            writer.close()
            return received

    assert asyncio.run(serve()) == b"hello"
    fake.view.assert_called_once_with(5)
