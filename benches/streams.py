"""What it costs a server to receive framed messages: asyncio's streams, ours, and the rivals.

Each run is a server process of its own, fed by a client process over loopback; the contenders take
turns, round after round; shown are the medians with their spread. ``--quick`` does a little of all.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

import records

from bytepool import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEADER = struct.Struct("!Q")
LIVE = 8  # messages that a server works on at a time: each is kept until that many more have come
# The first is a program for asyncio's streams of which only the import was changed.
CONTENDERS = [
    "unchanged",
    "readview",
    "frames",
    "asyncio streams",
    "asyncio, tuned malloc",
    "bytearray",
    "deque",
    "static",
]
PLAIN_ONLY = ("asyncio, tuned malloc", "bytearray", "deque")
# With these settings glibc keeps the memory of freed messages for the next ones.
TUNED = ":".join(f"glibc.malloc.{name}={64 << 20}" for name in ("mmap_threshold", "trim_threshold"))
# name: (sizes of messages, bytes a run)
LOADS = {
    "1 MiB": ((1 << 20, 1 << 20), 1 << 29),
    "64 KiB-4 MiB": ((64 << 10, 4 << 20), 1 << 30),
    "16 MiB": ((16 << 20, 16 << 20), 2 << 30),
    "16 KiB": ((16 << 10, 16 << 10), 200 << 20),
    "4 KiB": ((4 << 10, 4 << 10), 200 << 20),
    "1 KiB": ((1 << 10, 1 << 10), 100 << 20),
}


def sizes(load: str, share: float) -> Iterator[int]:
    """The same messages each time; sizes spread evenly over their powers of two."""
    (least, most), total = LOADS[load]
    choose = random.Random(1)
    total = int(total * share)
    while total > 0:
        n = int(least * (most / least) ** choose.random())
        total -= n
        yield n


# The client process.


def send(port: int, load: str, share: float, certificate: str) -> None:
    sock: socket.socket = socket.create_connection(("127.0.0.1", port))
    if certificate:
        context = ssl.create_default_context(cafile=certificate)
        sock = context.wrap_socket(sock, server_hostname="localhost")
    payload = memoryview(random.Random(2).randbytes(LOADS[load][0][1]))
    batch = bytearray()
    with sock:
        for n in sizes(load, share):
            batch += HEADER.pack(n)
            if (
                n < 1 << 16
            ):  # as a client with many small messages would, so that it is not the brake
                batch += payload[:n]
                if len(batch) < 1 << 16:
                    continue
            sock.sendall(batch)
            batch.clear()
            if n >= 1 << 16:
                sock.sendall(payload[:n])
        sock.sendall(batch)
        if isinstance(sock, ssl.SSLSocket):
            # Say goodbye and hear it: closing with session tickets unread would reset the rest.
            with contextlib.suppress(OSError):
                sock.unwrap()


# The server process.


class Receiver(asyncio.BufferedProtocol):
    """Messages straight into memory from ``take``; what was worked on goes to ``give``."""

    def __init__(
        self,
        take: Callable[[int], memoryview],
        give: Callable[[memoryview], None],
        done: asyncio.Future[list[float]],
    ) -> None:
        self.take, self.give, self.done = take, give, done
        self.header = memoryview(bytearray(HEADER.size))
        self.target: memoryview | None = None
        self.filled = 0
        self.waits: list[float] = []
        self.live: deque[memoryview] = deque()

    def get_buffer(self, _: int) -> memoryview:
        return (self.header if self.target is None else self.target)[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if self.target is None:
            if self.filled == HEADER.size:
                (n,) = HEADER.unpack(self.header)
                self.begin = time.perf_counter()
                self.target, self.filled = self.take(n), 0
        elif self.filled == len(self.target):
            self.waits.append(time.perf_counter() - self.begin)
            self.live.append(self.target)
            self.target, self.filled = None, 0
            if len(self.live) > LIVE:
                self.give(self.live.popleft())

    def connection_lost(self, _: Exception | None) -> None:
        self.done.set_result(self.waits)


def hand_written_pool() -> tuple[Callable[[int], memoryview], Callable[[memoryview], None]]:
    """A deque of bytearrays for each power of two: fast, and corrupt if anybody keeps a view."""
    free: dict[int, deque[bytearray]] = defaultdict(deque)

    def take(n: int) -> memoryview:
        bucket = free[(n - 1).bit_length()]
        buffer = bucket.pop() if bucket else bytearray(1 << (n - 1).bit_length())
        return memoryview(buffer)[:n]

    def give(view: memoryview) -> None:
        buffer = view.obj
        assert isinstance(buffer, bytearray)
        free[(len(buffer) - 1).bit_length()].append(buffer)

    return take, give


async def serve(contender: str, load: str, certificate: str) -> list[float]:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[list[float]] = loop.create_future()
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    where = ("127.0.0.1", 0)

    async def read_messages(reader: Any, writer: asyncio.StreamWriter) -> None:
        waits = []
        live: deque[object] = deque(maxlen=LIVE)
        read = reader.readview if contender == "readview" else reader.readexactly
        try:
            if contender == "frames":
                begin = time.perf_counter()
                async for message in reader.frames(length_size=8):
                    live.append(message)
                    waits.append(time.perf_counter() - begin)
                    begin = time.perf_counter()
                raise asyncio.IncompleteReadError(b"", 0)
            while True:
                (n,) = HEADER.unpack(await reader.readexactly(HEADER.size))
                begin = time.perf_counter()
                live.append(await read(n))
                waits.append(time.perf_counter() - begin)
        except asyncio.IncompleteReadError:
            writer.close()
            done.set_result(waits)

    if contender.startswith("asyncio"):
        server = await asyncio.start_server(read_messages, *where, ssl=context)
    elif contender in ("unchanged", "readview", "frames"):
        server = await streams.start_server(read_messages, *where, ssl=context)
    else:
        static = memoryview(bytearray(LOADS[load][0][1]))
        take, give = {
            "bytearray": (lambda n: memoryview(bytearray(n)), lambda _: None),
            "deque": hand_written_pool(),
            "static": (lambda n: static[:n], lambda _: None),
        }[contender]
        server = await loop.create_server(lambda: Receiver(take, give, done), *where, ssl=context)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        return await done


def peak_rss() -> int:
    """In bytes; not ``ru_maxrss``, which a process inherits from the one that started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def run_server(contender: str, load: str, loop: str, certificate: str) -> None:
    """Receive everything, and print what it took as JSON."""
    factory = asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    with asyncio.Runner(loop_factory=factory) as runner:
        waits = runner.run(serve(contender, load, certificate))
    seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_SELF)
    report = {
        "seconds": seconds,
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "faults": after.ru_minflt - before.ru_minflt,
        "rss": peak_rss(),
        "p99": sorted(waits)[int(len(waits) * 0.99)],
        "messages": len(waits),
    }
    print(json.dumps(report), flush=True)


# The process that lets them take turns.


def measure(
    contender: str, load: str, loop: str, certificate: str, share: float
) -> dict[str, float]:
    me = [sys.executable, __file__]
    tunables = {"GLIBC_TUNABLES": TUNED} if "tuned" in contender else {}
    with subprocess.Popen(
        [*me, "--serve", contender, load, loop, certificate],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | tunables,
    ) as server:
        assert server.stdout
        port = server.stdout.readline().strip()
        client = [*me, "--send", port, load, str(share), certificate and certificate + ".ca"]
        subprocess.run(client, check=True, timeout=120)
        report: dict[str, float] = json.loads(server.stdout.readline())
    messages = list(sizes(load, share))
    assert report["messages"] == len(messages), "every message arrived"
    total = sum(messages)
    return {
        "CPU s/GB": report["cpu"] / total * 1e9,
        "MB/s": total / report["seconds"] / 1e6,
        "faults/MB": report["faults"] / total * 1e6,
        "RSS MB": report["rss"] / 1e6,
        "p99 ms": report["p99"] * 1e3,
    }


def main() -> None:
    from rich.console import Console
    from rich.progress import track
    from rich.table import Table

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--loops", nargs="+", default=["asyncio", "uvloop"])
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    parser.add_argument("--tls", nargs="+", default=["plain", "tls"], choices=["plain", "tls"])
    parser.add_argument("--contenders", nargs="+", default=CONTENDERS, choices=CONTENDERS)
    parser.add_argument("--json", type=Path, help="write all runs here")
    options = parser.parse_args()
    share, rounds = (0.05, 1) if options.quick else (1.0, options.rounds)

    console = Console() if sys.stdout.isatty() else Console(width=100)
    with tempfile.TemporaryDirectory() as folder:
        certificate = write_certificate(folder) if "tls" in options.tls else ""
        plan = [
            (load, loop, tls, contender)
            for load in options.loads
            for loop in options.loops
            for tls in options.tls
            for turn in range(rounds)
            # In another order each time: who runs first after others may have to get cold pages.
            for contender in random.Random(turn).sample(options.contenders, len(options.contenders))
            if tls == "plain" or contender not in PLAIN_ONLY
        ]
        runs: dict[tuple[str, str, str], dict[str, list[dict[str, float]]]] = {}
        for load, loop, tls, contender in track(plan, console=console, transient=True):
            result = measure(contender, load, loop, certificate if tls == "tls" else "", share)
            runs.setdefault((load, loop, tls), {}).setdefault(contender, []).append(result)

    for (load, loop, tls), results in runs.items():
        table = Table(title=f"{load}, {loop}, {tls}", title_justify="left")
        for column in (
            "",
            "CPU s/GB",
            "least",
            "most",
            "x streams",
            "MB/s",
            "faults/MB",
            "RSS MB",
            "p99 ms",
        ):
            table.add_column(column, justify="right" if column else "left")
        middle = {
            name: {key: statistics.median(run[key] for run in all_runs) for key in all_runs[0]}
            for name, all_runs in results.items()
        }
        for name, values in middle.items():
            cpu = [run["CPU s/GB"] for run in results[name]]
            table.add_row(
                name,
                *(f"{number:.2f}" for number in (values["CPU s/GB"], min(cpu), max(cpu))),
                f"{values['CPU s/GB'] / middle['asyncio streams']['CPU s/GB']:.2f}",
                f"{values['MB/s']:,.0f}",
                f"{values['faults/MB']:.1f}",
                f"{values['RSS MB']:,.0f}",
                f"{values['p99 ms']:.2f}",
            )
        console.print(table)
    if options.json:
        records.write(options.json, runs, ("CPU s/GB", "faults/MB", "RSS MB"))


def write_certificate(folder: str) -> str:
    import trustme

    authority = trustme.CA()
    path = str(Path(folder) / "server.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(path)
    authority.cert_pem.write_to_path(path + ".ca")
    return path


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        run_server(*sys.argv[2:])
    elif sys.argv[1:2] == ["--send"]:
        send(int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), sys.argv[5])
    else:
        main()
