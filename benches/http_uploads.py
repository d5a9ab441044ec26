"""What it costs a server to receive uploads: uvicorn as it is, with our protocol, and the rivals.

Each run is a server process of its own, fed by a client process over loopback; the contenders take
turns, round after round; shown are the medians with their spread. ``--quick`` does a little of all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import records

if TYPE_CHECKING:
    from starlette.requests import Request

# The first of each group is what the others are compared with.
GROUPS = {
    "body": ["stock body", "ours body", "ours pooled", "helper", "hypercorn helper", "static"],
    "stream": ["stock stream", "ours stream"],
    "small": ["stock small", "ours small"],
}
CONTENDERS = [name for group in GROUPS.values() for name in group]
# name: (size of a body, connections, requests a run)
LOADS = {
    "64 KiB": (64 << 10, 8, 4000),
    "1 MiB": (1 << 20, 8, 600),
    "16 MiB": (16 << 20, 8, 64),
    "100 MiB": (100 << 20, 4, 12),
    "GET": (0, 4, 8000),
    "POST 1 KiB": (1 << 10, 4, 8000),
}
SMALL = ("GET", "POST 1 KiB")


def contenders_for(load: str) -> list[str]:
    return GROUPS["small"] if load in SMALL else GROUPS["body"] + GROUPS["stream"]


# The client process.


def request_on(port: int, load: str, requests: int, latencies: list[float]) -> None:
    """Send requests on one connection, each after the response to the one before."""
    size = LOADS[load][0]
    body = memoryview(bytes(range(251)) * (size // 251 + 1))[:size]
    if load == "GET":
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    else:
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % size
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(requests):
            begin = time.perf_counter()
            if size < 1 << 15:
                sock.sendall(head + body)
            else:
                sock.sendall(head)
                sock.sendall(body)
            answer = b""
            while not answer.endswith(b"bytes"):
                received = sock.recv(4096)
                assert received, answer
                answer += received
            assert answer.endswith(b"\r\n\r\n%d bytes" % size), answer
            latencies.append(time.perf_counter() - begin)


def send(port: int, load: str, share: float) -> None:
    _, connections, requests = LOADS[load]
    each = max(1, int(requests * share / connections))
    latencies: list[float] = []
    threads = [
        threading.Thread(target=request_on, args=(port, load, each, latencies))
        for _ in range(connections)
    ]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    latencies.sort()
    report = {
        "requests": len(latencies),
        "seconds": seconds,
        "p99": latencies[int(len(latencies) * 0.99)],
    }
    print(json.dumps(report))


# The server process.


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
    from bytepool import asgi

    largest = max(size for size, _, _ in LOADS.values())
    pool = bytepool.Pool(max_size=largest)

    async def body(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{len(await request.body())} bytes")

    async def stream(request: Request) -> PlainTextResponse:
        size = 0
        async for part in request.stream():
            size += len(part)
        return PlainTextResponse(f"{size} bytes")

    async def pooled(request: Request) -> PlainTextResponse:
        view = await asgi.body(request, max_size=largest, pool=pool)
        return PlainTextResponse(f"{len(view)} bytes")

    handler = {"body": body, "stream": stream, "small": body}.get(kind, pooled)
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


# The process that lets them take turns.


def measure(contender: str, load: str, loop: str, share: float) -> dict[str, float]:
    me = [sys.executable, __file__]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        server = subprocess.Popen(
            [*me, "--serve", contender, loop, str(sock.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[sock.fileno()],
        )
    with server:
        assert server.stdin
        assert server.stdout
        assert server.stdout.readline() == "ready\n"

        def client(share: float) -> Any:
            command = [*me, "--send", str(port), load, str(share)]
            return json.loads(subprocess.run(command, check=True, stdout=-1, timeout=300).stdout)

        client(0.01)  # so that imports and first allocations are not measured
        server.stdin.write("begin\n")
        server.stdin.flush()
        sent = client(share)
        server.stdin.write("end\n")
        server.stdin.flush()
        report = json.loads(server.stdout.readline())
    requests, size = sent["requests"], LOADS[load][0]
    total = requests * size
    result = {
        "CPU us": report["cpu"] / requests * 1e6,
        "p99 ms": sent["p99"] * 1e3,
        "RSS MB": report["rss"] / 1e6,
        "requests/s": requests / sent["seconds"],
    }
    if load not in SMALL:
        result["CPU s/GB"] = report["cpu"] / total * 1e9
        result["MB/s"] = total / sent["seconds"] / 1e6
        result["faults/MB"] = report["faults"] / total * 1e6
    return result


def reference(contender: str) -> str:
    return next(group[0] for group in GROUPS.values() if contender in group)


def main() -> None:
    from rich.console import Console
    from rich.progress import track

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--loops", nargs="+", default=["uvloop", "asyncio"])
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--json", type=Path, help="write all runs here")
    options = parser.parse_args()
    share, rounds = (0.05, 1) if options.quick else (1.0, options.rounds)

    console = Console() if sys.stdout.isatty() else Console(width=100)
    runs: dict[tuple[str, str], dict[str, list[dict[str, float]]]] = {}
    for load in options.loads:
        for loop in options.loops:
            plan = [name for name in contenders_for(load) if name in options.contenders] * rounds
            results = runs[load, loop] = {}
            for contender in track(plan, f"{load}, {loop}", console=console, transient=True):
                result = measure(contender, load, loop, share)
                results.setdefault(contender, []).append(result)
            console.print(table(load, loop, results))
    if options.json:
        records.write(options.json, runs, ("CPU s/GB", "CPU us", "p99 ms", "RSS MB"))


def table(load: str, loop: str, results: dict[str, list[dict[str, float]]]) -> Any:
    """The medians of all rounds, and the lowest and highest cost."""
    from rich.table import Table

    cost = "CPU us" if load in SMALL else "CPU s/GB"
    last = ["requests/s"] if load in SMALL else ["MB/s", "faults/MB"]
    rows = Table(title=f"{load}, {loop}", title_justify="left")
    for column in ["", cost, "least", "most", "x stock", "p99 ms", "x stock", "RSS MB", *last]:
        rows.add_column(column, justify="right" if column else "left")
    middle = {
        name: {key: statistics.median(run[key] for run in all_runs) for key in all_runs[0]}
        for name, all_runs in results.items()
    }
    for name, values in middle.items():
        cpu = [run[cost] for run in results[name]]
        stock = middle.get(reference(name), values)
        rows.add_row(
            name,
            *(f"{number:.2f}" for number in (values[cost], min(cpu), max(cpu))),
            f"{values[cost] / stock[cost]:.2f}",
            f"{values['p99 ms']:.2f}",
            f"{values['p99 ms'] / stock['p99 ms']:.2f}",
            f"{values['RSS MB']:,.0f}",
            *(f"{values[key]:,.0f}" for key in last),
        )
    return rows


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        run_server(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1:2] == ["--send"]:
        send(int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
    else:
        main()
