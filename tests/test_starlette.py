"""``bytepool.starlette.form`` gives what Starlette's own forms give, in pooled memory."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import httpx
import pytest
from fastapi import Request
from helpers import pattern, without_collector
from hypothesis import example, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from test_asgi import made, script
from uvicorn_helpers import digest, serving

import bytepool.starlette
from bytepool import Pool
from bytepool.starlette import PooledFile, form

MIB = 1 << 20
BOUNDARY = b"--4f2e--"
DELIMITER = b"\r\n--" + BOUNDARY


def part(content: bytes, name: str = "file", filename: str | None = "a.bin") -> bytes:
    disposition = f'form-data; name="{name}"'
    if filename is not None:
        disposition += f'; filename="{filename}"\r\nContent-Type: image/x'
    return b"Content-Disposition: " + disposition.encode() + b"\r\n\r\n" + content


def multipart(*parts: bytes) -> bytes:
    return b"".join(b"--" + BOUNDARY + b"\r\n" + each + b"\r\n" for each in parts) + (
        b"--" + BOUNDARY + b"--\r\n"
    )


def request(*messages: Any, length: int | None = None, kind: str | None = None) -> Request:
    """A request whose body comes in these messages."""
    kind = kind or f"multipart/form-data; boundary={BOUNDARY.decode()}"
    headers = [(b"content-type", kind.encode())]
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    scope = {"type": "http", "method": "POST", "headers": headers, "app": None}
    return Request(scope, script(*messages))


async def seen(reading: Any) -> list[Any] | str:
    """What a form has, or how it is refused."""
    try:
        found = await reading
    except HTTPException as error:
        return f"{error.status_code} {error.detail}"
    values: list[Any] = []
    for name, value in found.multi_items():
        if not isinstance(value, str):
            content = await value.read()
            assert len(content) == value.size
            value = (value.filename, value.content_type, value.headers.raw, content)
        values.append((name, value))
    await found.close()
    return values


TEXT = st.one_of(
    st.sampled_from([b"", b"a", DELIMITER, DELIMITER[:-1], DELIMITER + b"-", b"\r", b"\r\n--"]),
    st.binary(max_size=40),
)
CONTENT = st.lists(TEXT, max_size=4).map(b"".join)
NAMES = st.sampled_from(["file", "a b", "ä", "", 'q\\"q'])
PARTS = st.one_of(
    *[st.builds(part, CONTENT, NAMES, st.one_of(st.none(), NAMES))] * 9,
    st.builds(lambda content: b"Content-Type: a/b\r\n\r\n" + content, CONTENT),
    TEXT,
)
CUTS = st.one_of(st.just(1 << 20), st.just(1 << 20), st.integers(0, 400))
KINDS = st.sampled_from(
    [None] * 12
    + [
        f"multipart/form-data; charset=latin-1; boundary={BOUNDARY.decode()}",
        f"multipart/form-data; charset=none; boundary={BOUNDARY.decode()}",
        "multipart/form-data",
        f"multipart/form-data; boundary={'a' * 300}",
        "application/x-www-form-urlencoded",
        "text/plain",
    ]
)


class Spooled(io.BytesIO):
    """In place of a temporary file: Starlette closes none of a form that ends too early."""

    _rolled = False

    def __init__(self, max_size: int) -> None:  # noqa: ARG002
        super().__init__()


@pytest.mark.thread_unsafe(reason="it changes a constant while the form is read")
@settings(max_examples=150, deadline=None)
@example([part(b"x" * 60), part(b"y", filename=None)], 1000, 33, None)
@given(st.lists(PARTS, max_size=4), CUTS, st.integers(1, 70), KINDS)
def test_forms_are_read_as_by_starlette(
    parts: list[bytes], length: int, step: int, kind: str | None
) -> None:
    body = multipart(*parts)[:length]
    limits: Any = {"max_files": 2, "max_fields": 2, "max_part_size": 100}
    pool = Pool()

    async def main() -> None:
        theirs = await seen(request(body, kind=kind).form(**limits))
        assert await seen(form(request(body, kind=kind), pool=pool, **limits)) == theirs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bytepool.starlette, "_STEP", step)
        patch.setattr("starlette.formparsers.SpooledTemporaryFile", Spooled)
        asyncio.run(main())
    assert pool.stats().outstanding == 0


def test_the_files_of_a_form_are_in_one_buffer() -> None:
    async def main() -> None:
        pool = Pool()
        contents = [pattern(300_000), b"", pattern(70_000)]
        body = multipart(*map(part, contents), part(b"text", "field", None))
        halves = body[:100_000], body[100_000:]
        fields = await form(request(*halves, length=len(body)), pool=pool)
        files = fields.getlist("file")
        assert fields["field"] == "text"
        assert made(pool) == 1
        for file, content in zip(files, contents, strict=True):
            assert isinstance(file, PooledFile)
            assert isinstance(file, UploadFile)
            assert file.view == content
            assert (file.filename, file.content_type) == ("a.bin", "image/x")
        view = files[0].view[5:10]  # type: ignore[union-attr]
        await fields.close()
        with pytest.raises(ValueError, match="closed"):
            files[0].view  # type: ignore[union-attr]  # noqa: B018
        del file, files, fields
        assert pool.stats().outstanding == 1
        assert view == contents[0][5:10]
        del view
        assert pool.stats().outstanding == 0

    asyncio.run(main())


def test_a_form_above_max_size_is_a_413_before_anything_is_allocated() -> None:
    async def main() -> None:
        pool = Pool()
        with pytest.raises(HTTPException) as refused:
            await form(request(length=101), max_size=100, pool=pool)
        assert refused.value.status_code == 413
        assert made(pool) == 0

    asyncio.run(main())


def test_a_form_waits_for_the_budget() -> None:
    async def main() -> None:
        pool = Pool(max_bytes=MIB)
        held = pool.view(MIB)
        body = multipart(part(bytes(1000)))
        task = asyncio.create_task(form(request(body, length=len(body)), pool=pool))
        await asyncio.sleep(0.01)
        assert not task.done()
        del held
        assert len((await task)["file"].view) == 1000  # type: ignore[union-attr]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["disconnect", "invalid", "no name", "too many", "cancelled"])
def test_an_error_keeps_no_memory(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    good = part(pattern(200_000))
    body = {
        "disconnect": multipart(good),
        "invalid": multipart(good, b"\0"),
        "no name": multipart(good, b"Content-Disposition: form-data\r\n\r\n"),
        "too many": multipart(good, good),
        "cancelled": multipart(good),
    }[how]
    pool = Pool()

    async def main() -> BaseException:
        async def cancelled() -> None:
            raise asyncio.CancelledError

        if how == "cancelled":
            monkeypatch.setattr(bytepool.starlette, "checkpoint", cancelled)
        messages = [body, None] if how == "disconnect" else [body]
        length = len(body) + 1 if how == "disconnect" else None
        try:
            await form(request(*messages, length=length), max_files=1, pool=pool)
        except BaseException as error:
            return error
        raise AssertionError("no error")

    kind = {"disconnect": ClientDisconnect, "cancelled": asyncio.CancelledError}
    with without_collector():
        error = asyncio.run(main())
        assert isinstance(error, kind.get(how, HTTPException))
        assert pool.stats().outstanding == 0


def test_the_methods_of_a_pooled_file() -> None:
    async def main() -> None:
        file = PooledFile(memoryview(b"abcdef"), "a", Headers())
        assert await file.read(2) == b"ab"
        await file.seek(4)
        assert await file.read() == b"ef"
        with pytest.raises(io.UnsupportedOperation):
            await file.write(b"x")
        await file.close()
        await file.close()

    asyncio.run(main())


def test_no_file_is_kept_in_a_reference_cycle() -> None:
    """Without the garbage collector, the buffer is returned when the request is answered."""
    pool = Pool()

    async def upload(request: Request) -> PlainTextResponse:
        fields = await form(request, pool=pool)
        return PlainTextResponse(digest(fields["file"].view))  # type: ignore[union-attr]

    app = Starlette(routes=[Route("/", upload, methods=["POST"])])

    async def main() -> None:
        async with serving(app) as server, httpx.AsyncClient() as client:
            for _ in range(2):
                data = pattern(MIB)
                reply = await client.post(server.url, files={"file": data})
                assert reply.text == digest(data)
                assert pool.stats().outstanding == 0

    with without_collector():
        asyncio.run(main())
