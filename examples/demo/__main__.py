"""The demo: real files, sent by several processes, received into pooled buffers, and checked.

The same run on asyncio's own streams stands beside it. Run it with ``make demo``. It ends by
itself, and with an error if a single byte was wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from typing import TYPE_CHECKING

from clients import default_roots, find_files, read_source, send_files
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from server import Report, serve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from server import Source

MB = 1_000_000
PLAIN, POOLED = "asyncio streams", "bytepool.streams"


class Display:
    """A progress bar on a terminal, a line now and then in a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description:<16}"),
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
            self.console.print(f"{self.name:<16} {int(100 * done):3}%  {what}", highlight=False)
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


def speed(report: Report) -> float:
    """Megabytes a second."""
    return report.payload / MB / max(report.seconds, 1e-9)


def receive(
    name: str, sources: Sequence[Source], display: Display, seconds: float, connections: int
) -> Report:
    """Let client processes send to a server process of that name; return its last report."""
    display.stage(name)
    processes = multiprocessing.get_context("spawn")
    pipe, theirs = processes.Pipe()
    arguments = (theirs, sources, connections, name == POOLED)
    server = processes.Process(target=serve, args=arguments, daemon=True)
    server.start()
    theirs.close()
    report, clients = Report(), []
    try:
        address = pipe.recv()
        begin = time.time()
        for seed in range(connections):
            work = (address, sources, seed, begin + seconds)
            clients.append(processes.Process(target=send_files, args=work, daemon=True))
            clients[-1].start()
        # However it goes, this ends: who hangs is given up 15 seconds after the time.
        while not report.done and pipe.poll(max(begin + seconds + 15 - time.time(), 0)):
            report = pipe.recv()
            payload = f"{report.payload / MB:,.0f} MB, {speed(report):,.0f} MB/s"
            what = f"{report.messages:,} messages, {payload}"
            passed = min((time.time() - begin) / seconds, 0.999)
            display.show(1.0 if report.done else passed, what)
    except EOFError:
        report.faults.append("the server ended without a report")
    for process in (*clients, server):
        process.join(timeout=5)
        if process.exitcode != 0:
            report.faults.append(f"{process.name} ended with {process.exitcode}")
            process.kill()
    return report


def problems(name: str, report: Report) -> list[str]:
    """All that must not be."""
    found = list(report.faults)
    if report.wrong_messages:
        wrong = f"{report.wrong_bytes:,} bytes in {report.wrong_messages:,} messages"
        found.append(f"{wrong} were wrong")
    if not report.messages:
        found.append("no message arrived")
    if not report.done:
        found.append("the server did not come to its end")
    if report.stats and report.stats.outstanding:
        found.append(f"{report.stats.outstanding} buffers are still out")
    return [f"{name}: {problem}" for problem in found]


def figures(report: Report) -> dict[str, str]:
    """What there is to compare."""
    megabytes = max(report.payload / MB, 1)
    return {
        "messages": f"{report.messages:,}",
        "payload": f"{report.payload / MB:,.0f} MB",
        "wrong bytes": f"{report.wrong_bytes:,} in {report.wrong_messages:,} messages",
        "speed, every byte checked": f"{speed(report):,.0f} MB/s",
        "CPU of the event loop": f"{1000 * report.loop_cpu / megabytes:.2f} s/GB",
        "page faults": f"{report.page_faults / megabytes:,.1f} a MB",
        "peak RSS": f"{report.peak_rss / MB:,.0f} MB",
        "pool hit rate": f"{report.stats.hit_rate:.1%}" if report.stats else "",
    }


def side_by_side(reports: dict[str, Report]) -> Table:
    table = Table()
    table.add_column("")
    for name in reports:
        table.add_column(name, justify="right")
    columns = [figures(report) for report in reports.values()]
    for name in columns[0]:
        table.add_row(name, *(column[name] for column in columns))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="demo")
    parser.add_argument(
        "--seconds", type=float, default=8, help="how long the clients send, to each server"
    )
    parser.add_argument("--connections", type=int, default=4, help="client processes")
    parser.add_argument("--files", type=int, default=3000, help="source files, at the most")
    parser.add_argument("--megabytes", type=int, default=1000, help="of source files, at the most")
    parser.add_argument("roots", nargs="*", help="folders to send (default: this Python's own)")
    options = parser.parse_args()

    console = Console()
    display = Display(console)
    with display.bars:
        display.stage("looking")
        roots = options.roots or default_roots()
        sources = collect(display, find_files(roots, options.files, options.megabytes * MB))
        if not sources:
            console.print("there is no file to send", style="red")
            return 2
        reports = {
            name: receive(name, sources, display, options.seconds, options.connections)
            for name in (PLAIN, POOLED)
        }
    console.print()
    console.print(side_by_side(reports))
    console.print(f"\n{reports[POOLED].pool}", highlight=False)
    console.print(str(reports[POOLED].stats), highlight=False, markup=False)

    failures = [line for name, report in reports.items() for line in problems(name, report)]
    for failure in failures:
        console.print(f"FAILED: {failure}", style="red", markup=False, soft_wrap=True)
    if not failures:
        total = sum(report.messages for report in reports.values())
        console.print(f"every byte of {total:,} messages was right", style="green")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
