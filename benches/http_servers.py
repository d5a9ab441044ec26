"""The servers that http_uploads.py measures, each in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request

# No body is larger, in bytes.
LARGEST = 101 << 20


class StaticProtocol(asyncio.BufferedProtocol):
    """The floor: it looks for the length of a body, and receives it into one buffer for all."""

    static = memoryview(bytearray(1 << 20))
    scratch = memoryview(bytearray(16 << 10))

    def __init__(self) -> None:
        self.head, self.left, self.size = b"", 0, 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def get_buffer(self, _: int) -> memoryview:
        return self.static[: self.left] if self.left else self.scratch

    def buffer_updated(self, n: int) -> None:
        if not self.left:
            self.head += self.scratch[:n]
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            self.head = b""
            self.size = int(head.partition(b"Content-Length: ")[2] or 0)
            self.left, n = self.size, len(rest)
        self.left -= n
        if not self.left:
            text = b"%d bytes" % self.size
            self.transport.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
            )


def application(kind: str) -> Any:
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    import bytepool
    from bytepool import asgi, starlette

    pool = bytepool.Pool(max_size=LARGEST)

    async def body(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    async def stream(request: Request) -> PlainTextResponse:
        size = 0
        async for part in request.stream():
            size += len(part)
        return PlainTextResponse(f"{size} bytes")

    async def pooled(request: Request) -> PlainTextResponse:
        view = await asgi.body(request, max_size=LARGEST, pool=pool)
        return PlainTextResponse(f"{len(view)} bytes")

    async def form(request: Request) -> PlainTextResponse:
        async with request.form() as fields:
            file: Any = fields["file"]
            return PlainTextResponse(f"{len(await file.read())} bytes")

    async def pooled_form(request: Request) -> PlainTextResponse:
        fields = await starlette.form(request, max_size=LARGEST, pool=pool)
        file: Any = fields["file"]
        return PlainTextResponse(f"{len(file.view)} bytes")

    handlers = {
        "body": body,
        "stream": stream,
        "small": body,
        "form": form,
        "pooled form": pooled_form,
    }
    handler = handlers.get(kind, pooled)
    return Starlette(routes=[Route("/", handler, methods=["GET", "POST"])])


async def serve(contender: str, sock: socket.socket) -> None:
    server_name, _, kind = contender.partition(" ")
    if contender == "static":
        server = await asyncio.get_running_loop().create_server(StaticProtocol, sock=sock)
        print("ready", flush=True)
        await server.serve_forever()
    elif server_name == "hypercorn":
        from hypercorn.asyncio import serve as hypercorn
        from hypercorn.config import Config

        config = Config()
        config.bind = [f"fd://{sock.fileno()}"]
        config.accesslog = config.errorlog = None
        sock.listen()
        print("ready", flush=True)
        await hypercorn(application(kind), config)
    else:
        import uvicorn

        http = "bytepool.uvicorn:Protocol" if server_name == "ours" else "httptools"
        options = uvicorn.Config(
            application(kind), http=http, lifespan="off", access_log=False, log_level="error"
        )
        sock.listen()
        print("ready", flush=True)
        await uvicorn.Server(options).serve(sockets=[sock])


def peak_rss() -> int:
    """In bytes; not ``ru_maxrss``, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run_server(contender: str, loop: str, port_file: int) -> None:
    """Serve until a line comes, and print what it took as JSON."""
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    sock = socket.socket(fileno=port_file)

    def report() -> None:
        sys.stdin.readline()
        before = resource.getrusage(resource.RUSAGE_SELF)
        sys.stdin.readline()
        after = resource.getrusage(resource.RUSAGE_SELF)
        result = {
            "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "faults": after.ru_minflt - before.ru_minflt,
            "rss": peak_rss(),
        }
        print(json.dumps(result), flush=True)
        os._exit(0)

    threading.Thread(target=report, daemon=True).start()
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(contender, sock))


if __name__ == "__main__":
    run_server(sys.argv[1], sys.argv[2], int(sys.argv[3]))
