"""FastAPI routes get the files of forms in pooled memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, File, Form, Request, UploadFile
from helpers import pattern
from test_asgi import made
from uvicorn_helpers import digest, serving

from bytepool import Pool
from bytepool.fastapi import PooledForms
from bytepool.starlette import PooledFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1 << 20
POOL = Pool(max_size=8 * MIB)


class Forms(PooledForms):
    max_size = 4 * MIB
    pool = POOL


def application(route_class: Any) -> FastAPI:
    app = FastAPI()
    router = APIRouter(**({"route_class": route_class} if route_class else {}))

    @router.post("/upload")
    async def upload(
        file: UploadFile, more: list[UploadFile], name: Annotated[str, Form()]
    ) -> list[Any]:
        assert isinstance(file, PooledFile) == (route_class is not None)
        contents = [await each.read() for each in (file, *more)]
        return [name, file.filename, *map(digest, contents)]

    @router.post("/bytes")
    async def as_bytes(file: Annotated[bytes, File()]) -> int:
        return len(file)

    @router.post("/request")
    async def by_request(request: Request) -> list[str]:
        async with request.form(max_fields=5) as fields:
            assert await request.form() is fields
            return [*fields]

    @router.post("/json")
    async def as_json(value: dict[str, int]) -> int:
        return value["a"]

    app.include_router(router)
    return app


@pytest.mark.thread_unsafe(reason="its threads would share one pool, whose counters it checks")
def test_routes_get_pooled_files_without_a_change() -> None:
    stock = application(None)
    ours = application(Forms)
    assert ours.openapi() == stock.openapi()
    assert "multipart/form-data" in str(ours.openapi())
    data = pattern(2 * MIB)

    async def answers(app: FastAPI) -> list[Any]:
        async with serving(app) as server, httpx.AsyncClient(base_url=server.url) as client:
            files = [("file", ("a.bin", data)), ("more", ("b", b"1")), ("more", ("c", b"2"))]
            replies = [
                await client.post("/upload", files=files, data={"name": "n"}),
                await client.post("/upload", files=files),
                await client.post("/bytes", files={"file": data}),
                await client.post("/request", files={"file": data}, data={"b": "1"}),
                await client.post("/request", data={"a": "1", "b": "2"}),
                await client.post("/json", json={"a": 5}),
                await client.post("/request", files={"file": data}, data=dict.fromkeys("abcdef")),
            ]
            return [(reply.status_code, reply.json()) for reply in replies]

    found = asyncio.run(answers(ours))
    assert found == asyncio.run(answers(stock))
    assert [status for status, _ in found] == [200, 422, 200, 200, 200, 200, 400]
    assert found[0][1] == ["n", "a.bin", digest(data), digest(b"1"), digest(b"2")]
    assert made(POOL) == 5
    assert POOL.stats().outstanding == 0


def test_a_form_above_max_size_is_a_413() -> None:
    app = FastAPI()
    app.router.route_class = PooledForms

    @app.post("/bytes")
    async def upload(file: UploadFile) -> None:
        raise AssertionError(file)

    async def main() -> None:
        async with serving(app) as server, httpx.AsyncClient(base_url=server.url) as client:
            reply = await client.post("/bytes", files={"file": bytes((16 << 20) + 1)})
            assert reply.status_code == 413
            assert "above max_size" in reply.json()["detail"]

    asyncio.run(main())


def test_a_form_without_a_length_that_exceeds_the_budget_is_a_503() -> None:
    """It cannot wait in line: its buffer grows while it is received."""
    budgeted = Pool(max_bytes=MIB)

    class Budgeted(PooledForms):
        pool = budgeted

    async def main() -> None:
        app = application(Budgeted)
        async with serving(app) as server, httpx.AsyncClient(base_url=server.url) as client:
            built = client.build_request("POST", "/bytes", files={"file": bytes(MIB)})
            headers = {"content-type": built.headers["content-type"]}

            async def chunks() -> AsyncIterator[bytes]:
                yield built.read()

            for path in ("/bytes", "/request"):
                reply = await client.post(path, content=chunks(), headers=headers)
                assert (reply.status_code, "no memory" in reply.json()["detail"]) == (503, True)
                assert budgeted.stats().outstanding == 0

    asyncio.run(main())
