"""What it costs a server to receive uploads: uvicorn as it is, with our protocol, and the rivals.

Each run is a server process of its own, fed by a client process over loopback; the contenders take
turns, round after round; shown are the medians with their spread. ``--quick`` does a little of all.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import records

# The first of each group is what the others are compared with.
GROUPS = {
    "body": ["stock body", "ours body", "ours pooled", "helper", "hypercorn helper", "static"],
    "stream": ["stock stream", "ours stream"],
    "form": ["stock form", "ours form", "ours pooled form", "helper pooled form"],
    "small": ["stock small", "ours small"],
}
CONTENDERS = [name for group in GROUPS.values() for name in group]
# name: (size of a body, connections, requests a run)
LOADS = {
    "64 KiB": (64 << 10, 8, 4000),
    "1 MiB": (1 << 20, 8, 600),
    "16 MiB": (16 << 20, 8, 64),
    "100 MiB": (100 << 20, 4, 12),
    "form, 1 MiB": (1 << 20, 8, 400),
    "form, 16 MiB": (16 << 20, 8, 48),
    "GET": (0, 4, 8000),
    "POST 1 KiB": (1 << 10, 4, 8000),
}
SMALL = ("GET", "POST 1 KiB")
SMALL_ROUNDS = 4  # times as many rounds: they are short, and their p99 differs much between rounds
BOUNDARY = b"----4f2e6f9e2"
FORM = b'--%s\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n--%s--\r\n'


def contenders_for(load: str) -> list[str]:
    if load.startswith("form"):
        return GROUPS["form"]
    return GROUPS["small"] if load in SMALL else GROUPS["body"] + GROUPS["stream"]


SERVERS = Path(__file__).with_name("http_servers.py")


# The client process.


def request_on(port: int, load: str, requests: int, latencies: list[float]) -> None:
    """Send requests on one connection, each after the response to the one before."""
    size = LOADS[load][0]
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    if load == "GET":
        head = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    else:
        kind = b"application/octet-stream"
        if load.startswith("form"):
            kind = b"multipart/form-data; boundary=" + BOUNDARY
            body = FORM % (BOUNDARY, body, BOUNDARY)
        head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\n" % kind
        head += b"Content-Length: %d\r\n\r\n" % len(body)
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


# The process that lets them take turns.


def measure(contender: str, load: str, loop: str, share: float) -> dict[str, float]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        port = sock.getsockname()[1]
        server = subprocess.Popen(
            [sys.executable, SERVERS, contender, loop, str(sock.fileno())],
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
            command = [sys.executable, __file__, "--send", str(port), load, str(share)]
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
            turns = rounds * SMALL_ROUNDS if load in SMALL else rounds
            plan = [name for name in contenders_for(load) if name in options.contenders] * turns
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
    if sys.argv[1:2] == ["--send"]:
        send(int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
    else:
        main()
