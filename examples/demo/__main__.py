"""The demo: real files, sent by several processes, received into pooled buffers, and checked.

Run it with ``make demo``. It ends by itself, and with an error if a single byte was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import sys
import time
from typing import TYPE_CHECKING

from clients import default_roots, find_files, read_source, send_files
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from server import Server, Source

import bytepool

if TYPE_CHECKING:
    from collections.abc import Sequence

MB = 1_000_000


class Display:
    """A progress bar on a terminal, a line now and then in a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            TextColumn("{task.fields[what]}"),
        )
        self.bars = Progress(
            *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        )
        self.task = self.bars.add_task("", what="")
        self.said = 0.0

    def stage(self, name: str) -> None:
        self.name = name
        self.said = 0.0
        self.bars.reset(self.task, description=name, what="")

    def show(self, done: float, what: str) -> None:
        """``done``: from 0.0 to 1.0."""
        self.bars.update(self.task, completed=100 * min(done, 1.0), what=what)
        if self.console.is_terminal:
            return
        if done >= 1.0 or time.monotonic() - self.said > 2:
            self.console.print(f"{self.name:<10} {int(100 * done):3}%  {what}", highlight=False)
            self.said = time.monotonic()


def collect(display: Display, paths: Sequence[str]) -> list[Source]:
    display.stage("hashing")
    sources: list[Source] = []
    total = 0
    for path in paths:
        sources.append(read_source(path))
        total += sources[-1].size
        display.show(len(sources) / len(paths), f"{len(sources):,} files, {total / MB:,.0f} MB")
    return sources


async def receive(server: Server, display: Display, seconds: float, connections: int) -> list[int]:
    """Serve until every client is done; return the clients' exit codes."""
    listener = await server.listen()
    address = listener.sockets[0].getsockname()
    processes = multiprocessing.get_context("spawn")
    begin = time.time()
    clients = [
        processes.Process(
            target=send_files, args=(address, server.sources, seed, begin + seconds), daemon=True
        )
        for seed in range(connections)
    ]
    for client in clients:
        client.start()
    display.stage("receiving")
    # However it goes, this ends: clients that hang are given up 15 seconds after their time.
    while any(client.is_alive() for client in clients) or server.connections:
        passed = time.time() - begin
        tally = server.tally
        rate = tally.payload / MB / tally.seconds()
        what = f"{tally.messages:,} messages, {tally.payload / MB:,.0f} MB, {rate:,.0f} MB/s"
        display.show(min(passed / seconds, 0.999), what)
        if passed > seconds + 15:
            break
        await asyncio.sleep(0.1)
    display.show(1.0, what)
    listener.close()
    for client in clients:
        if client.is_alive():
            client.terminate()
        client.join()
    return [client.exitcode or 0 for client in clients]


def report(console: Console, server: Server, page_faults: int) -> None:
    tally, stats = server.tally, server.pool.stats()
    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    console.print(f"\nreceived into {server.pool!r}", highlight=False)
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in (
        ("messages", f"{tally.messages:,}"),
        ("payload", f"{tally.payload / MB:,.0f} MB"),
        ("speed", f"{tally.payload / MB / tally.seconds():,.0f} MB/s"),
        ("wrong bytes", f"{tally.wrong_bytes:,} in {tally.wrong_messages:,} messages"),
        ("page faults", f"{page_faults:,} ({page_faults / max(tally.payload / MB, 1):.2f} a MB)"),
        ("peak RSS", f"{peak_rss / MB:,.0f} MB"),
        ("pool hit rate", f"{stats.hit_rate:.1%}"),
    ):
        table.add_row(name, value)
    console.print(table)
    console.print(str(stats), highlight=False, markup=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="demo")
    parser.add_argument("--seconds", type=float, default=15, help="how long the clients send")
    parser.add_argument("--connections", type=int, default=4, help="client processes")
    parser.add_argument("--files", type=int, default=3000, help="source files, at the most")
    parser.add_argument("--megabytes", type=int, default=1000, help="of source files, at the most")
    parser.add_argument("roots", nargs="*", help="folders to send (default: this Python's own)")
    options = parser.parse_args()

    console = Console()
    display = Display(console)
    # Room for the largest libraries among the files; what is larger still is served all the same.
    server = Server(bytepool.Pool(max_size=64 << 20, max_buffers=8), [])
    with display.bars:
        display.stage("looking")
        roots = options.roots or default_roots()
        server.sources = collect(display, find_files(roots, options.files, options.megabytes * MB))
        if not server.sources:
            console.print("there is no file to send", style="red")
            return 2
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        exits = asyncio.run(receive(server, display, options.seconds, options.connections))
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    report(console, server, faults)

    tally = server.tally
    problems = [*tally.faults, *(f"a client ended with {code}" for code in exits if code)]
    if tally.wrong_messages:
        problems.append(
            f"{tally.wrong_bytes:,} bytes in {tally.wrong_messages:,} messages were wrong"
        )
    if not tally.messages:
        problems.append("no message arrived")
    if outstanding := server.pool.stats().outstanding:
        problems.append(f"{outstanding} buffers are still out")
    for problem in problems:
        console.print(f"FAILED: {problem}", style="red", highlight=False, markup=False)
    if not problems:
        console.print(f"every byte of {tally.messages:,} messages was right", style="green")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
