"""The same bytes in any chunks give the same events and responses as with uvicorn itself."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState
from uvicorn_helpers import PROTOCOLS, DrivenTransport, answer, config

from bytepool import asgi
from bytepool.uvicorn import _chunks, _http, _timers

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE, CHUNK = 16, 40  # bytes, so that short bodies are large

# How the application treats a request stands in its path.
PATHS = ("/all", "/first", "/ignore", "/end", "/fail", "/pooled", "/parts", "/cancel")


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_http, "LARGE", LARGE)
        patch.setattr(_http, "LARGE_DIGITS", 2)
        patch.setattr(_chunks.ChunkSize, "_size", CHUNK)
        patch.setattr(_chunks, "KEPT_CHUNK", 4 * CHUNK)
        patch.setattr(_timers, "PATIENCE", 0)
        patch.setattr(asgi, "_IN_PLACE", 8)
        yield


def application(events: list[Any]) -> Any:
    """An ASGI application that notes what it is told."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen = {key: value for key, value in scope.items() if key not in ("extensions", "state")}
        note: dict[str, Any] = {"scope": seen, "body": b"", "messages": []}
        events.append(note)

        async def read() -> bool:
            message = await receive()
            if message["type"] == "http.disconnect":
                note["messages"].append("disconnect")
                return False
            note["body"] += message["body"]
            more: bool = message["more_body"]
            if not more:
                note["messages"].append("complete")
            return more

        path = scope["path"]
        if path == "/pooled":
            note["body"] = bytes(await asgi.body(scope, receive))
        elif path == "/parts":
            parts = asgi.Body(scope, receive)
            while part := await parts.readview(13):
                note["body"] += part
        elif path == "/cancel":
            with_timeout = asyncio.wait_for(receive(), 0)
            with contextlib.suppress(TimeoutError):
                note["body"] += (await with_timeout).get("body", b"")
            while await read():
                pass
        elif path == "/first":
            await read()
            note["body"] = note["body"][:1]  # how much comes first is not the same
            note["messages"] = []
        elif path == "/fail":
            await read()
            note["body"], note["messages"] = b"", []
            raise RuntimeError("the application failed")
        elif path != "/ignore":
            while await read():
                pass
        await answer(send, b"%d bytes" % len(note["body"]))
        if path == "/end":
            await read()

    return app


async def run(name: str, deliveries: list[bytes], lose: bool) -> tuple[list[bytes], Any]:
    """What the protocol took of the deliveries at each time; what application and peer see."""
    events: list[Any] = []
    loaded = config(application(events), access_log=False)
    loaded.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    transport = DrivenTransport(PROTOCOLS[name](loaded, state, {}, loop))
    pending = list(deliveries)
    taken: list[bytes] = []
    for _ in range(60):
        taken.append(b"")
        if pending and not transport.paused:
            data = pending.pop(0)
            left = transport.deliver(data)
            taken[-1] = data[: len(data) - len(left)]
            if left:
                pending.insert(0, left)
        for _ in range(6):
            await asyncio.sleep(0)
        if not pending and transport.closing:
            break
    before = (transport.written, transport.closing)
    if lose:
        transport.lose()
        for _ in range(20):
            await asyncio.sleep(0)
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)
    transport.close()
    for _ in range(3):
        await asyncio.sleep(0)
    return [*taken, *pending], (events, before, transport.written)


SIZES = st.one_of(st.integers(0, 120), st.sampled_from([15, 16, 17, 39, 40, 41, 80, 81]))


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    method = draw(st.sampled_from(["POST", "PUT", "GET", "HEAD"]))
    version = draw(st.sampled_from(["1.1"] * 5 + ["1.0"]))
    size = draw(SIZES)
    body = bytes(i % 251 for i in range(size))
    lines = [f"{method} {draw(st.sampled_from(PATHS))} HTTP/{version}", "Host: a"]
    framing = draw(st.sampled_from(["length"] * 6 + ["chunked", "none", "wrong", "both", "bad"]))
    if framing == "wrong":
        lines.append(f"Content-Length: {max(0, size + draw(st.integers(-20, 20)))}")
    elif framing == "bad":
        lines.append(f"Content-Length: {draw(st.sampled_from(['-1', '0x20', '9' * 30, '1 2']))}")
    elif framing in ("length", "both"):
        lines.append(f"Content-Length: {size}")
    if framing in ("chunked", "both"):
        lines.append("Transfer-Encoding: chunked")
        step = draw(st.integers(1, 50))
        parts = [body[i : i + step] for i in range(0, size, step)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    if framing == "none":
        body = b""
    lines += draw(
        st.lists(
            st.sampled_from(
                [
                    "Expect: 100-continue",
                    "Connection: close",
                    "Connection: keep-alive",
                    "Connection: upgrade\r\nUpgrade: h2c",
                    "Connection: upgrade\r\nUpgrade: websocket",
                ]
            ),
            max_size=1,
        )
    )
    return "\r\n".join([*lines, "", ""]).encode() + body


NO_REQUESTS = st.sampled_from([b"\r\n", b"\r\n\r\n", b"garbage", b"\0", b"GET / HTTP/9.9\r\n\r\n"])


@st.composite
def deliveries(draw: st.DrawFn) -> list[bytes]:
    """Requests and other bytes, cut into pieces anywhere, and perhaps cut off."""
    pieces = st.one_of(*[requests()] * 6, NO_REQUESTS)
    data = draw(requests()) + b"".join(draw(st.lists(pieces, max_size=2)))
    if draw(st.booleans()) and draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=5)))
    return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True) if i < j]


def allow_more(stock: list[Any], ours: list[Any]) -> None:
    """After the end of a connection, only ours still gives what has come of a body."""
    for theirs, note in zip(stock, ours, strict=False):
        if theirs["messages"] == ["disconnect"] and note["body"].startswith(theirs["body"]):
            note["body"], note["messages"] = theirs["body"], ["disconnect"]


def posted(*headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST /all HTTP/{version}", "Host: a", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


LAST = posted("Connection: close", f"Content-Length: {LARGE}") + bytes(8)
INVALID = posted("Content-Length: 0", "Transfer-Encoding: chunked")


@settings(max_examples=60)
@example([posted("Content-Length: 0") + LAST, bytes(8) + INVALID], False)
@example([LAST, bytes(8) + posted("Content-Length: 0")], True)
@example([posted(f"Content-Length: {LARGE}", version="1.0"), bytes(LARGE) + b"garbage"], False)
@given(deliveries(), st.booleans())
def test_applications_and_clients_see_the_same(data: list[bytes], lose: bool) -> None:
    taken, ours = asyncio.run(run("ours", data, lose))
    # Ours stops reading at the end of a chunk, and may close the connection before it goes on.
    _, stock = asyncio.run(run("stock", taken, lose))
    allow_more(stock[0], ours[0])
    assert ours == stock
