"""Several tasks receive one upload: a middleware's and the application's, or one after another."""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
from typing import TYPE_CHECKING, Any

import pytest
from helpers import pattern
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from streams_helpers import run_fixture
from uvicorn_helpers import answer, digest, post, response, serving, wait_until

from bytepool import Pool, asgi
from bytepool.uvicorn import _body, _chunks, _timers

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from starlette.requests import Request

    Run = Callable[[Coroutine[Any, Any, None]], None]

MIB = 1 << 20

run = run_fixture()


async def upload_in_parts(writer: asyncio.StreamWriter, data: bytes, size: int) -> None:
    writer.write(post(b"", length=len(data)))
    for start in range(0, len(data), size):
        writer.write(data[start : start + size])
        await asyncio.sleep(0.01)


def available(fd: int) -> int:
    """How many bytes the socket has."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def in_a_task(app: Any) -> Any:
    """A middleware that receives all in a task of its own."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        messages: asyncio.Queue[Any] = asyncio.Queue()

        async def receive_all() -> None:
            while True:
                messages.put_nowait(await receive())

        task = asyncio.create_task(receive_all())
        try:
            await app(scope, messages.get, send)
        finally:
            task.cancel()

    return wrapped


def one_ahead(app: Any) -> Any:
    """A middleware that has the next message when it returns one."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        following: list[Any] = []

        async def receive_ahead() -> Any:
            message = following.pop() if following else await receive()
            if message.get("more_body"):
                following.append(await receive())
            return message

        await app(scope, receive_ahead, send)

    return wrapped


def waiting(app: Any) -> Any:
    """A middleware that waits for something else before it receives."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def receive_later() -> Any:
            await asyncio.sleep(0.001)
            return await receive()

        await app(scope, receive_later, send)

    return wrapped


@pytest.mark.parametrize("size", [600_000, 3 * MIB])
@pytest.mark.parametrize("how", ["body", "readinto"])
@pytest.mark.parametrize("middleware", [in_a_task, one_ahead, waiting])
def test_a_middleware_may_receive_in_its_own_way(
    run: Run, middleware: Any, how: str, size: int
) -> None:
    """It may have an earlier message while the application gives memory for the next one."""

    async def main() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.sleep(0.01)
            if how == "body":
                parts = [await asgi.body(scope, receive)]
            else:
                source = asgi.Body(scope, receive)
                parts = [memoryview(bytearray(MIB // 2)) for _ in range(7)]
                parts = [part[: await source.readinto(part)] for part in parts]
            await answer(send, digest(*parts).encode())

        data = pattern(3 * MIB)
        async with serving(middleware(app)) as server:
            reader, writer = await server.connect()
            await upload_in_parts(writer, data, size)
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_a_look_for_a_disconnect_leaves_a_read_of_another_task_alone(run: Run) -> None:
    async def main() -> None:
        pool = Pool()

        async def upload(request: Request) -> PlainTextResponse:
            body = asyncio.create_task(asgi.body(request, pool=pool))
            await asyncio.sleep(0.03)
            assert not await request.is_disconnected()
            return PlainTextResponse(digest(await body))

        data = pattern(3 * MIB)
        async with serving(Starlette(routes=[Route("/", upload, methods=["POST"])])) as server:
            reader, writer = await server.connect()
            await upload_in_parts(writer, data, 400_000)
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())


def test_a_task_gets_a_copy_of_what_filled_the_memory_of_another(run: Run) -> None:
    async def main() -> None:
        all_wait = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            incoming = scope["extensions"]["bytepool"]
            first = asyncio.create_task(receive())
            while not incoming.waiting:
                await asyncio.sleep(0)
            view = memoryview(bytearray(1000))
            second = asyncio.create_task(receive())
            asyncio.get_running_loop().call_later(0.01, all_wait.set)
            third = await incoming.receive(view)
            messages = [await first, await second, third]
            assert all(type(message["body"]) is bytes for message in messages)
            assert messages[0]["body"] == view
            while all(message["more_body"] for message in messages):
                messages.append(await receive())
            await answer(send, b"%d" % sum(len(message["body"]) for message in messages))

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=3 * MIB))
            await all_wait.wait()
            writer.write(pattern(3 * MIB))
            assert await response(reader) == (200, b"%d" % (3 * MIB))
            writer.close()

    run(main())


def test_a_task_whose_bytes_another_one_got_learns_of_the_end(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_timers, "PATIENCE", 60)

    async def main() -> None:
        async def app(_scope: Any, receive: Any, send: Any) -> None:
            messages = await asyncio.gather(receive(), receive())
            assert [len(message["body"]) for message in messages] == [200_000, 0]
            assert [message["more_body"] for message in messages] == [False, False]
            await answer(send, b"")

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=200_000))
            await asyncio.sleep(0.01)
            writer.write(pattern(200_000))
            assert (await response(reader))[0] == 200
            writer.close()

    run(main())


def test_memory_of_an_application_gets_no_byte_of_the_next_request(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_chunks.ChunkSize, "_size", 65_000)
    monkeypatch.setattr(_body, "MUCH", 1)
    data = pattern(200_000)

    async def main() -> None:
        clients: list[asyncio.StreamWriter] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == "/second":
                await answer(send, b"")
                return
            body = asgi.Body(scope, receive)
            assert await body.readinto(bytearray(70_000)) == 70_000
            fd = scope["extensions"]["bytepool"]._http.flow._fd
            await wait_until(lambda: available(fd) == 30_000)
            task = asyncio.create_task(receive())
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # now it has a part of its chunk
            clients[0].write(data[100_000:] + post(b"", path="/second"))
            # While this call lets others run, the task gets bytes that this call wanted.
            assert await body.readinto(bytearray(130_000)) == 65_000
            assert len((await task)["body"]) == 65_000
            await answer(send, b"")

        async with serving(app) as server:
            reader, writer = await server.connect()
            clients.append(writer)
            writer.write(post(data[:100_000], length=200_000, path="/first"))
            assert await response(reader) == (200, b"")
            assert await response(reader) == (200, b"")
            writer.close()

    run(main())


def test_a_task_that_waits_when_the_application_fails_learns_of_it(run: Run) -> None:
    async def main() -> None:
        tasks: list[asyncio.Task[Any]] = []

        async def app(_scope: Any, receive: Any, send: Any) -> None:
            loop = asyncio.get_running_loop()
            loop.call_soon(lambda: tasks.append(loop.create_task(receive())))
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await receive()  # the same bytes wake both
            raise ValueError

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=300_000))
            await asyncio.sleep(0.01)
            writer.write(pattern(100_000))
            await reader.read()
            assert await tasks[0] == {"type": "http.disconnect"}
            writer.close()

    run(main())


def test_two_reads_of_a_body_at_a_time_are_refused(run: Run) -> None:
    async def main() -> None:
        refused = asyncio.Event()
        data = pattern(200_000)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            source = asgi.Body(scope, receive)
            task = asyncio.create_task(source.readview(200_000))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another call waits"):
                await source.readview(1)
            refused.set()
            await answer(send, digest(await task).encode())

        async with serving(app) as server:
            reader, writer = await server.connect()
            writer.write(post(b"", length=len(data)))
            await refused.wait()
            writer.write(data)
            assert await response(reader) == (200, digest(data).encode())
            writer.close()

    run(main())
