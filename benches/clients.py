"""Measure what ``streams.install()`` saves libraries that read through asyncio's streams.

Each run is a client process of its own that gets values from a real server. (hypercorn is a server:
it receives uploads.) asyncio's streams and ours take turns, round after round. The table shows the
client's CPU seconds per GB as median, least and most, and the median ratio of a round with its
spread. ``--quick`` does little of everything.

``make bench-clients`` puts ``tests`` on PYTHONPATH. Servers that are missing are named.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from libraries import servers
from libraries.values import SIZES

# library: the server it needs
LIBRARIES = {
    "redis-py": "redis",
    "redis-py, hiredis": "redis",
    "nats-py": "nats",
    "aiomysql": "mysql",
    "hypercorn": None,
}
STREAMS = ("asyncio", "bytepool")


class Load(NamedTuple):
    """What one run transfers."""

    size: int  # bytes of a value
    values: int  # over each connection
    connections: int


LOADS = {
    "64 KiB": Load(SIZES[0], 1500, 1),
    "64 KiB, fresh connections": Load(SIZES[0], 3, 200),
    "10 MB": Load(SIZES[1], 30, 1),
}


def run(library: str, loop: str, streams: str, port: int, load: Load) -> float:
    """Return the CPU seconds per GB of one client process."""
    command = [sys.executable, "-m", "libraries.worker", library, loop, streams, str(port)]
    done = subprocess.run(
        [*command, *map(str, load)], check=True, timeout=300, stdout=subprocess.PIPE, text=True
    )
    report = json.loads(done.stdout)
    cpu: float = report["cpu"] / report["bytes"] * 1e9
    return cpu


def measure(options: argparse.Namespace, ports: dict[str | None, int]) -> list[dict[str, Any]]:
    from rich.progress import track

    plan = [
        (library, name, loop)
        for library in options.libraries
        if LIBRARIES[library] in ports
        for name in options.loads
        for loop in options.loops
        # A fresh connection of hypercorn would start the whole server anew.
        if library != "hypercorn" or LOADS[name].connections == 1
    ]
    cells: list[dict[str, Any]] = []
    for library, name, loop in track(plan, transient=True, disable=not sys.stdout.isatty()):
        load = LOADS[name]
        if options.quick:
            load = load._replace(values=3, connections=min(load.connections, 3))
        runs: dict[str, list[float]] = {streams: [] for streams in STREAMS}
        for turn in range(1 if options.quick else options.rounds):
            for streams in STREAMS if turn % 2 else reversed(STREAMS):
                runs[streams].append(run(library, loop, streams, ports[LIBRARIES[library]], load))
        cells.append({"library": library, "value": name, "loop": loop, "CPU s/GB": runs})
    return cells


def show(cells: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    def spread(numbers: list[float]) -> str:
        return f"{statistics.median(numbers):.2f} ({min(numbers):.2f}-{max(numbers):.2f})"

    table = Table(title="client CPU s/GB", title_justify="left")
    for column in ("library", "value", "loop", *STREAMS, "ratio"):
        table.add_column(column, justify="left" if column in ("library", "value") else "right")
    for cell in cells:
        plain, ours = (cell["CPU s/GB"][streams] for streams in STREAMS)
        ratios = [mine / theirs for mine, theirs in zip(ours, plain, strict=True)]
        table.add_row(
            cell["library"], cell["value"], cell["loop"], *map(spread, (plain, ours, ratios))
        )
    (Console() if sys.stdout.isatty() else Console(width=120)).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one short round")
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--loads", nargs="+", default=list(LOADS), choices=list(LOADS))
    parser.add_argument("--loops", nargs="+", default=["asyncio", "uvloop"])
    parser.add_argument("--json", type=Path, help="write all runs here")
    options = parser.parse_args()
    ports: dict[str | None, int] = {None: 0}
    with contextlib.ExitStack() as stack:
        for server in dict.fromkeys(LIBRARIES[library] for library in options.libraries):
            try:
                if server:
                    ports[server] = stack.enter_context(servers.serve(server))
            except FileNotFoundError as error:
                print(error, file=sys.stderr)
        cells = measure(options, ports)
    show(cells)
    if options.json:
        options.json.write_text(json.dumps(cells, indent=1))


if __name__ == "__main__":
    main()
