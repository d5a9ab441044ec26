"""Measure the memory of an idle connection in a server: asyncio's streams and bytepool's.

Each client sends a greeting and then nothing. The server process measures its resident memory
before and after. The clients run in another process.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import resource
import socket
import statistics
import subprocess
import sys
from pathlib import Path

from bytepool import Pool, streams

HELLO = b"hello"


def resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def connect(port: int, count: int) -> None:
    """Open all connections, and keep them open until stdin is closed."""
    connections = []
    for _ in range(count):
        connections.append(socket.create_connection(("127.0.0.1", port)))
        connections[-1].sendall(HELLO)
    sys.stdin.read()


async def serve(contender: str, count: int) -> float:
    pool = Pool()
    all_connected = asyncio.Event()
    greeted = 0

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        assert await reader.readexactly(len(HELLO)) == HELLO
        greeted += 1
        if greeted == count:
            all_connected.set()
        await reader.read()
        writer.close()

    if contender == "bytepool":
        server = await streams.start_server(hold, "127.0.0.1", 0, pool=pool, backlog=1000)
    else:
        server = await asyncio.start_server(hold, "127.0.0.1", 0, backlog=1000)
    port = server.sockets[0].getsockname()[1]
    client = [sys.executable, __file__, "--connect", str(port), str(count)]
    before = resident()
    with subprocess.Popen(client, stdin=subprocess.PIPE) as clients:
        await asyncio.wait_for(all_connected.wait(), 60)
        cost = (resident() - before) / count
        assert pool.stats().peak_outstanding == 0, "idle connections must not hold pooled buffers"
        clients.communicate()
    server.close()
    return cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for contender in ("asyncio", "bytepool"):
        runs = []
        for _ in range(options.rounds):
            command = [sys.executable, __file__, "--serve", contender, str(options.connections)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
            runs.append(float(done.stdout))
        print(
            f"{contender:<9} {statistics.median(runs):8,.0f} bytes per connection"
            f" ({min(runs):,.0f} to {max(runs):,.0f}; {options.connections:,} connections)"
        )


if __name__ == "__main__":
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if sys.argv[1:2] == ["--serve"]:
        print(asyncio.run(serve(sys.argv[2], int(sys.argv[3]))))
    elif sys.argv[1:2] == ["--connect"]:
        connect(int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
