"""A client that sends nothing is cut off, on ``bytepool.uvicorn``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern
from streams_helpers import run_fixture
from uvicorn_helpers import answer, digest, post, record_timers, response, serving

from bytepool import Pool, asgi
from bytepool.uvicorn import Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


def test_a_stalled_client_is_cut_off(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.1

        pool = Pool()
        disconnected = asyncio.Event()

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            with pytest.raises(asgi.ClientDisconnectedError):
                await asgi.body(scope, receive, pool=pool)
            disconnected.set()

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(100_000), length=200_000))
            await asyncio.sleep(0.08)
            writer.write(pattern(10))
            await asyncio.sleep(0.08)
            assert pool.stats().outstanding == 1, "it has made progress"
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            await disconnected.wait()
            assert pool.stats().outstanding == 0
            writer.close()

    run(main())


def test_a_client_that_the_application_holds_back_is_not_cut_off(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.03

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.15)
            await answer(send, digest(await asgi.body(scope, receive)).encode())

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            data = pattern(MIB)
            writer.write(post(data))
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_time_before_the_application_reads_does_not_count_as_a_stall(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 1.0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.9)  # the next check is soon
            await answer(send, digest(await asgi.body(scope, receive)).encode())

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            data = pattern(200_000)
            writer.write(post(b"", "Expect: 100-continue", length=len(data)))
            assert await response(reader) == (100, b"")
            await asyncio.sleep(0.2)
            writer.write(data)
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_a_stalled_client_is_cut_off_though_the_application_cancels_its_reads(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.1

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            body = asgi.Body(scope, receive)
            with contextlib.suppress(asgi.ClientDisconnectedError):
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.01):
                            await body.readinto(bytearray(200_000))
                    await asyncio.sleep(0)

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(100_000), length=200_000))
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()

    run(main())


def test_a_client_that_stalls_after_an_early_answer_is_cut_off(run: Run) -> None:
    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.1

        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            await answer(send, b"early")

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=200_000))
            assert await response(reader) == (200, b"early")
            # While bytes come, the time for the next request does not run.
            writer.write(pattern(1000))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()

    run(main())


def test_checks_for_a_stall_are_rare_while_the_application_does_not_receive(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Little of the time may be left when the application stops."""
    checks = record_timers(monkeypatch)

    async def main() -> None:
        class Impatient(Protocol):
            stall_timeout = 0.3

        async def app(scope: Any, receive: Any, send: Any) -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.29):
                    await asgi.body(scope, receive)
            await asyncio.sleep(0.4)
            await answer(send, b"")

        async with serving(app, Impatient) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=200_000))
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await response(reader)
            assert len(checks) < 10
            writer.close()

    run(main())
