"""Calls that receive an upload are cancelled: no byte is lost, and no memory is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern
from streams_helpers import run_fixture
from uvicorn_helpers import answer, digest, post, response, serving, wait_until

from bytepool import Pool, asgi

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


def test_a_cancelled_call_leaves_the_memory_of_another_task_in_use(run: Run) -> None:
    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            view = memoryview(bytearray(200_000))
            asyncio.get_running_loop().call_later(0.02, asyncio.create_task(receive()).cancel)
            assert (await scope["extensions"]["bytepool"].receive(view))["body"] is view
            await answer(send, b"")

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(1000), length=200_000))
            await asyncio.sleep(0.04)
            writer.write(pattern(199_000))
            assert (await response(reader))[0] == 200
            writer.close()

    run(main())


def test_a_call_that_follows_a_cancelled_one_at_once_gets_parts_of_chunks(run: Run) -> None:
    async def main() -> None:
        rest_may_come = asyncio.Event()

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            task = asyncio.create_task(receive())
            await asyncio.sleep(0.01)
            task.cancel()  # it has not ended when the next call begins
            received = len((await receive())["body"])
            rest_may_come.set()
            while received < 300_000:
                received += len((await receive())["body"])
            await answer(send, b"")

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(1000), length=300_000))
            await asyncio.sleep(0.03)
            writer.write(pattern(99_000))
            await rest_may_come.wait()
            writer.write(pattern(200_000))
            assert (await response(reader))[0] == 200
            writer.close()

    run(main())


def test_the_error_of_a_cancelled_read_keeps_no_memory(run: Run) -> None:
    async def main() -> None:
        pool = Pool()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.05)
            body = asgi.Body(scope, receive, pool=pool)
            for waits in (0, 1):
                assert len(await body.readview(200_000)) == 200_000
                task = asyncio.create_task(body.readview(MIB if waits else 200_000))
                for _ in range(1 + waits):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError) as cancelled:
                    await task
                assert pool.stats().outstanding == 0
                del cancelled
            await answer(send, b"")

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(pattern(MIB), length=2 * MIB))
            assert await response(reader) == (200, b"")
            writer.close()

    run(main())


def test_nothing_follows_the_end_though_the_call_that_was_to_get_it_was_cancelled(run: Run) -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def app(scope: Any, receive: Any, _send: Any) -> None:
            incoming = scope["extensions"]["bytepool"]
            task = asyncio.create_task(receive())
            await wait_until(lambda: incoming.waiting)
            incoming_updated = incoming.buffer_updated

            def cancelled(n: int) -> None:
                incoming_updated(n)
                if not incoming.coming:
                    task.cancel()

            incoming.buffer_updated = cancelled
            await asyncio.wait([task])
            assert task.cancelled()
            message = await receive()
            assert (len(message["body"]), message["more_body"]) == (200_000, False)
            after = asyncio.create_task(receive())
            await asyncio.sleep(0.02)
            assert not after.done()
            answered.set()
            assert (await after)["type"] == "http.disconnect"

        async with serving(app) as server:
            _, writer = await server.connect()
            writer.write(post(b"", length=200_000))
            await asyncio.sleep(0.01)
            writer.write(pattern(200_000))
            await answered.wait()
            writer.close()

    run(main())


def test_a_cancelled_read_hands_its_bytes_to_another_task(run: Run) -> None:
    async def main() -> None:
        cancelled = asyncio.Event()
        data = pattern(300_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            incoming = scope["extensions"]["bytepool"]
            filling = asyncio.create_task(incoming.receive(memoryview(bytearray(200_000))))
            await asyncio.sleep(0)
            other = asyncio.create_task(receive())
            await wait_until(lambda: incoming.coming == 200_000)
            filling.cancel()
            cancelled.set()
            messages = [await other]
            while messages[-1]["more_body"]:
                messages.append(await receive())
            parts = [message["body"] for message in messages]
            await answer(send, digest(*parts).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=len(data)))
            await asyncio.sleep(0.01)
            writer.write(data[:100_000])
            await cancelled.wait()
            writer.write(data[100_000:])
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())
