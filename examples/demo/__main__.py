"""The demo: several processes send real files to a server, which checks every byte.

The server runs three times: with asyncio's streams, as the same code with the import changed, and
with ``reader.frames()`` and pooled memory. Run the demo with ``make demo``. It ends by itself. The
exit status is 1 if a single byte is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import time
from typing import TYPE_CHECKING, get_args

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from senders import default_roots, find_files, read_source, send_files
from server import Kind, Report, serve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from server import Source

MB = 1_000_000
KINDS: tuple[Kind, ...] = get_args(Kind)


class Display:
    """Show a progress bar on a terminal, or a line every two seconds in a log."""

    def __init__(self, console: Console) -> None:
        self.console = console
        columns = (
            TextColumn("{task.description:<16}"),
            BarColumn(),
            TextColumn("{task.fields[details]}"),
        )
        self.bars = Progress(
            *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
        )
        self.task = self.bars.add_task("", details="")
        self.last_line = 0.0

    def stage(self, name: str) -> None:
        self.name = name
        self.last_line = 0.0
        self.bars.reset(self.task, description=name, details="")

    def show(self, done: float, details: str) -> None:
        """Show progress. ``done`` is between 0.0 and 1.0."""
        self.bars.update(self.task, completed=100 * min(done, 1.0), details=details)
        if self.console.is_terminal:
            return
        if done >= 1.0 or time.monotonic() - self.last_line > 2:
            self.console.print(f"{self.name:<16} {int(100 * done):3}%  {details}", highlight=False)
            self.last_line = time.monotonic()


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
    """Megabytes per second."""
    return report.payload / MB / max(report.seconds, 1e-9)


def receive(
    name: Kind, sources: Sequence[Source], display: Display, seconds: float, connections: int
) -> Report:
    """Run one server process and its client processes; return the server's last report."""
    display.stage(name)
    processes = multiprocessing.get_context("spawn")
    pipe, server_end = processes.Pipe()
    arguments = (server_end, sources, connections, name)
    server = processes.Process(target=serve, args=arguments, daemon=True)
    server.start()
    server_end.close()
    report, clients = Report(), []
    try:
        address = pipe.recv()
        begin = time.monotonic()
        for seed in range(connections):
            work = (address, sources, seed, seconds)
            clients.append(processes.Process(target=send_files, args=work, daemon=True))
            clients[-1].start()
        # A server that hangs is abandoned after 15 more seconds, so the demo always ends.
        while not report.done and pipe.poll(max(begin + seconds + 15 - time.monotonic(), 0)):
            report = pipe.recv()
            payload = f"{report.payload / MB:,.0f} MB, {speed(report):,.0f} MB/s"
            details = f"{report.messages:,} messages, {payload}"
            passed = min((time.monotonic() - begin) / seconds, 0.999)
            display.show(1.0 if report.done else passed, details)
    except EOFError:
        report.faults.append("the server ended without its last report")
    for process in (*clients, server):
        process.join(timeout=5)
        if process.exitcode != 0:
            report.faults.append(f"{process.name} ended with exit code {process.exitcode}")
            process.kill()
    return report


def problems(name: str, report: Report) -> list[str]:
    """Return one line for each failure of a run."""
    found = list(report.faults)
    if report.wrong_messages:
        wrong = f"{report.wrong_bytes:,} wrong bytes in {report.wrong_messages:,} messages"
        found.append(wrong)
    if not report.messages:
        found.append("no message arrived")
    if not report.done:
        found.append("the server did not finish")
    if report.stats and report.stats.outstanding:
        found.append(f"{report.stats.outstanding} buffers are still in use")
    return [f"{name}: {problem}" for problem in found]


def figures(report: Report) -> dict[str, str]:
    """Return the lines of the table for one run."""
    megabytes = max(report.payload / MB, 1)
    return {
        "messages": f"{report.messages:,}",
        "payload": f"{report.payload / MB:,.0f} MB",
        "wrong bytes": f"{report.wrong_bytes:,} in {report.wrong_messages:,} messages",
        "speed, every byte checked": f"{speed(report):,.0f} MB/s",
        "CPU of the event loop": f"{1000 * report.loop_cpu / megabytes:.2f} s/GB",
        "page faults": f"{report.page_faults / megabytes:,.1f} per MB",
        "peak RSS": f"{report.peak_rss / MB:,.0f} MB",
        "pool hit rate": f"{report.stats.hit_rate:.1%}" if report.stats else "",
    }


def side_by_side(reports: Mapping[Kind, Report]) -> Table:
    table = Table()
    table.add_column("")
    for name in reports:
        table.add_column(name, justify="right")
    columns = [figures(report) for report in reports.values()]
    for figure in columns[0]:
        table.add_row(figure, *(column[figure] for column in columns))
    return table


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="demo")
    parser.add_argument(
        "--seconds", type=float, default=8, help="seconds that the clients send to each server"
    )
    parser.add_argument("--connections", type=int, default=4, help="number of client processes")
    parser.add_argument("--files", type=int, default=3000, help="maximum number of source files")
    parser.add_argument(
        "--megabytes", type=int, default=1000, help="maximum size of all source files"
    )
    parser.add_argument(
        "roots", nargs="*", help="folders to send files from (default: this Python installation)"
    )
    options = parser.parse_args()

    console = Console()
    display = Display(console)
    with display.bars:
        display.stage("searching")
        roots = options.roots or default_roots()
        sources = collect(display, find_files(roots, options.files, options.megabytes * MB))
        if not sources:
            console.print("no files to send", style="red")
            return 2
        reports = {
            name: receive(name, sources, display, options.seconds, options.connections)
            for name in KINDS
        }
    console.print()
    console.print(side_by_side(reports))
    console.print(f"\n{reports['frames'].pool}", highlight=False)
    console.print(str(reports["frames"].stats), highlight=False, markup=False)

    failures = [line for name, report in reports.items() for line in problems(name, report)]
    for failure in failures:
        console.print(f"FAILED: {failure}", style="red", markup=False, soft_wrap=True)
    if not failures:
        total = sum(report.messages for report in reports.values())
        console.print(f"every byte of {total:,} messages was correct", style="green")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
