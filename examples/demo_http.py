"""The HTTP demo: several clients upload real files, and every byte is checked.

The server runs three times: as uvicorn is, with ``bytepool.uvicorn.Protocol``, and with pooled
bodies. Run it with ``make demo-http``. It ends by itself. The exit status is 1 if a single byte is
wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import multiprocessing
import os
import random
import resource
import socket
import sys
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

# name: (uvicorn's http=, whether bodies are pooled)
SERVERS = {
    "stock uvicorn": ("httptools", False),
    "bytepool.uvicorn": ("bytepool.uvicorn:Protocol", False),
    "pooled bodies": ("bytepool.uvicorn:Protocol", True),
}


def find_files(roots: list[str], most_bytes: int) -> list[tuple[str, bytes]]:
    """Return the largest files below the roots, and their digests."""
    sizes = {path: path.stat().st_size for root in roots for path in regular_files(root)}
    found = []
    for path in sorted(sizes, key=lambda path: sizes[path], reverse=True):
        if sizes[path] <= most_bytes:
            most_bytes -= sizes[path]
            found.append((str(path), hashlib.sha256(path.read_bytes()).digest()))
    return found


def regular_files(root: str) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if path.is_file() and not path.is_symlink() and "__pycache__" not in folder:
                yield path


def serve(pipe: Any, sock: socket.socket, protocol: str, is_pooled: bool) -> None:
    """Answer uploads with their digests until told to stop; send CPU seconds and the peak RSS."""
    import threading

    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route

    import bytepool
    from bytepool import asgi

    pool = bytepool.Pool(max_size=64 << 20)

    async def upload(request: Request) -> Response:
        if is_pooled:
            body: bytes | memoryview = await asgi.body(request, max_size=1 << 30, pool=pool)
        else:
            body = await request.body()
        return Response(hashlib.sha256(body).digest())

    app = Starlette(routes=[Route("/", upload, methods=["POST"])])
    config = uvicorn.Config(app, http=protocol, lifespan="off", log_level="warning")
    server = uvicorn.Server(config)

    def stop() -> None:
        pipe.recv()
        server.should_exit = True

    threading.Thread(target=stop).start()
    pipe.send("ready")
    server.run([sock])
    usage = resource.getrusage(resource.RUSAGE_SELF)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    pipe.send((usage.ru_utime + usage.ru_stime, peak, pool.stats().outstanding))


def upload_files(
    port: int, files: list[tuple[str, bytes]], seed: int, seconds: float, results: Any
) -> None:
    """Upload files in random order; put how many uploads, bytes and wrong answers there were."""
    choose = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    uploads = size = wrong = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        path, digest = choose.choice(files)
        body = Path(path).read_bytes()
        connection.request("POST", "/", body)
        uploads, size = uploads + 1, size + len(body)
        wrong += connection.getresponse().read() != digest
    connection.close()
    results.put((uploads, size, wrong))


def run(name: str, files: list[tuple[str, bytes]], clients: int, seconds: float) -> tuple[int, int]:
    """Run one server with its clients, print a line, and return the uploads and the wrong ones."""
    processes = multiprocessing.get_context("spawn")
    pipe, server_end = processes.Pipe()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        server = processes.Process(target=serve, args=(server_end, sock, *SERVERS[name]))
        server.start()
        pipe.recv()
    results = processes.Queue()
    senders = [
        processes.Process(target=upload_files, args=(port, files, seed, seconds, results))
        for seed in range(clients)
    ]
    for sender in senders:
        sender.start()
    sent = [results.get(timeout=seconds + 60) for _ in senders]
    for sender in senders:
        sender.join()
    pipe.send("stop")
    cpu, peak, in_use = pipe.recv()
    server.join()
    uploads, size, wrong = (sum(column) for column in zip(*sent, strict=True))
    print(
        f"{name:<17} {uploads:>6,} uploads, {wrong} wrong, {size / 1e6:>6,.0f} MB, "
        f"{cpu / max(size, 1) * 1e9:.2f} CPU s/GB with start and hashing, "
        f"peak RSS {peak / 1e6:,.0f} MB, in use {in_use}",
        flush=True,
    )
    return uploads, wrong + in_use


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=6, help="seconds that each server runs")
    parser.add_argument("--clients", type=int, default=4, help="number of client processes")
    parser.add_argument("--megabytes", type=int, default=300, help="maximum size of all files")
    parser.add_argument("roots", nargs="*", help="folders to upload (default: installed packages)")
    options = parser.parse_args()
    roots = options.roots or [sysconfig.get_path("platlib")]
    files = find_files(roots, options.megabytes * 1_000_000)
    if not files:
        print("no files to upload")
        return 2
    print(f"{len(files)} files, {options.clients} clients")
    runs = [run(name, files, options.clients, options.seconds) for name in SERVERS]
    if any(wrong for _, wrong in runs) or not all(uploads for uploads, _ in runs):
        print("FAILED: an upload was wrong or lost")
        return 1
    print(f"every byte of {sum(uploads for uploads, _ in runs):,} uploads was correct")
    return 0


if __name__ == "__main__":
    sys.exit(main())
